#include "textflag.h"

// func fetch(w *atomic.Uint64)
TEXT ·fetch(SB), NOSPLIT, $0-8
	MOVD w+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET
