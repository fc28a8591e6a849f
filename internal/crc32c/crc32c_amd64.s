#include "textflag.h"

// The registers hold the inverted CRC, as the instruction wants it.
//
// The tails use the narrower forms instead of a loop over bytes: each
// instruction waits three cycles for the one before it, so the number of
// instructions is the price. Loads need no alignment on this processor.

// func update(crc uint32, p []byte) uint32
TEXT ·update(SB), NOSPLIT, $0-36
	MOVL crc+0(FP), AX
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	NOTL AX

	SUBQ $32, CX
	JLT  words

four:
	CRC32Q 0(SI), AX
	CRC32Q 8(SI), AX
	CRC32Q 16(SI), AX
	CRC32Q 24(SI), AX
	ADDQ   $32, SI
	SUBQ   $32, CX
	JGE    four

words:
	// CX is the rest minus 32: its low five bits are those of the rest.
	BTL    $4, CX
	JCC    word
	CRC32Q 0(SI), AX
	CRC32Q 8(SI), AX
	ADDQ   $16, SI

word:
	BTL    $3, CX
	JCC    half
	CRC32Q 0(SI), AX
	ADDQ   $8, SI

half:
	BTL    $2, CX
	JCC    quarter
	CRC32L 0(SI), AX
	ADDQ   $4, SI

quarter:
	BTL    $1, CX
	JCC    last
	CRC32W 0(SI), AX
	ADDQ   $2, SI

last:
	BTL    $0, CX
	JCC    done
	CRC32B 0(SI), AX

done:
	NOTL AX
	MOVL AX, ret+32(FP)
	RET

// func frame(a, b, c, d, e uint64, p []byte) uint32
//
// update over p, and words5 with its result in the high half of d. The first three
// words do not wait for p.
TEXT ·frame(SB), NOSPLIT, $0-68
	MOVQ   p_base+40(FP), SI
	MOVQ   p_len+48(FP), CX
	MOVL   $-1, AX
	MOVL   $-1, DX
	CRC32Q a+0(FP), DX
	CRC32Q b+8(FP), DX
	CRC32Q c+16(FP), DX

	SUBQ $32, CX
	JLT  words

four:
	CRC32Q 0(SI), AX
	CRC32Q 8(SI), AX
	CRC32Q 16(SI), AX
	CRC32Q 24(SI), AX
	ADDQ   $32, SI
	SUBQ   $32, CX
	JGE    four

words:
	// CX is the rest minus 32: its low five bits are those of the rest.
	BTL    $4, CX
	JCC    word
	CRC32Q 0(SI), AX
	CRC32Q 8(SI), AX
	ADDQ   $16, SI

word:
	BTL    $3, CX
	JCC    half
	CRC32Q 0(SI), AX
	ADDQ   $8, SI

half:
	BTL    $2, CX
	JCC    quarter
	CRC32L 0(SI), AX
	ADDQ   $4, SI

quarter:
	BTL    $1, CX
	JCC    last
	CRC32W 0(SI), AX
	ADDQ   $2, SI

last:
	BTL    $0, CX
	JCC    done
	CRC32B 0(SI), AX

done:
	NOTL   AX
	SHLQ   $32, AX
	ORQ    d+24(FP), AX
	CRC32Q AX, DX
	CRC32Q e+32(FP), DX
	NOTL   DX
	MOVL   DX, ret+64(FP)
	RET

// func words5(a, b, c, d, e uint64) uint32
TEXT ·words5(SB), NOSPLIT, $0-44
	MOVL   $-1, AX
	CRC32Q a+0(FP), AX
	CRC32Q b+8(FP), AX
	CRC32Q c+16(FP), AX
	CRC32Q d+24(FP), AX
	CRC32Q e+32(FP), AX
	NOTL   AX
	MOVL   AX, ret+40(FP)
	RET

// func hide(p []byte) []byte
TEXT ·hide(SB), NOSPLIT, $0-48
	MOVQ p_base+0(FP), AX
	MOVQ p_len+8(FP), BX
	MOVQ p_cap+16(FP), CX
	MOVQ AX, ret_base+24(FP)
	MOVQ BX, ret_len+32(FP)
	MOVQ CX, ret_cap+40(FP)
	RET
