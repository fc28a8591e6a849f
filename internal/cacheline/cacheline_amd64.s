#include "textflag.h"

// func fetch(w *atomic.Uint64)
TEXT ·fetch(SB), NOSPLIT, $0-8
	MOVQ       w+0(FP), AX
	PREFETCHT0 (AX)
	RET
