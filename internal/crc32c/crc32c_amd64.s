#include "go_asm.h"
#include "textflag.h"

// The registers hold the inverted CRC, as the instruction wants it.
//
// The tails use the narrower forms instead of a loop over bytes: each
// instruction waits three cycles for the one before it, so the number of
// instructions is the price. Loads need no alignment on this processor.

// STREAMS advances AX over the front of the CX bytes at SI, in three streams side by
// side, each of which waits only for itself, as long as at least streamsBytes are left. A
// round takes the same number of words from three places, R8, as many as there are or
// mostWords. Then the first two streams are moved to the end by a multiplication, which
// the last word of the third is added to (V. Gopal et al., Fast CRC computation for iSCSI
// polynomial using CRC32 instruction, 2011). What the next round reads is prefetched.
#define STREAMS \
	CMPQ       CX, $const_streamsBytes   \
	JLT        rest                      \
	CMPB       ·hasFold(SB), $0          \
	JEQ        rest                      \
round:                                       \
	MOVL       $const_mostWords, R8      \
	CMPQ       CX, $(24*const_mostWords) \
	JGE        full                      \
	IMUL3Q     $2731, CX, R8             \
	SHRQ       $16, R8                   \
full:                                        \
	LEAQ       -8(R8*8), R12             \
	LEAQ       (SI)(R12*1), SI           \
	LEAQ       8(SI)(R12*1), R9          \
	LEAQ       8(R9)(R12*1), R10         \
	LEAQ       24(R12)(R12*2), R11       \
	SUBQ       R11, CX                   \
	CMPQ       R11, CX                   \
	CMOVQGT    CX, R11                   \
	LEAQ       8(R10), R13               \
	ADDQ       R13, R11                  \
	JMP        fetched                   \
fetch:                                       \
	PREFETCHT0 (R13)                     \
	ADDQ       $64, R13                  \
fetched:                                     \
	CMPQ       R13, R11                  \
	JLT        fetch                     \
	XORL       BX, BX                    \
	XORL       R13, R13                  \
	NEGQ       R12                       \
word3:                                       \
	CRC32Q     (SI)(R12*1), AX           \
	CRC32Q     (R9)(R12*1), BX           \
	CRC32Q     (R10)(R12*1), R13         \
	ADDQ       $8, R12                   \
	JNE        word3                     \
	CRC32Q     (SI), AX                  \
	CRC32Q     (R9), BX                  \
	LEAQ       ·folds(SB), R11           \
	MOVQ       AX, X0                    \
	MOVQ       BX, X1                    \
	MOVL       (R11)(R8*8), X2           \
	MOVL       (R11)(R8*4), X3           \
	PCLMULQDQ  $0, X2, X0                \
	PCLMULQDQ  $0, X3, X1                \
	PXOR       X1, X0                    \
	MOVQ       X0, AX                    \
	XORQ       (R10), AX                 \
	CRC32Q     AX, R13                   \
	MOVL       R13, AX                   \
	LEAQ       8(R10), SI                \
	CMPQ       CX, $const_streamsBytes   \
	JGE        round                     \
rest:

// func update(crc uint32, p []byte) uint32
TEXT ·update(SB), NOSPLIT, $0-36
	MOVL crc+0(FP), AX
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	NOTL AX
	STREAMS
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
	STREAMS
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
