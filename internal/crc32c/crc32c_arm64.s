#include "textflag.h"

// The registers hold the inverted CRC, as the instruction wants it. Loads need
// no alignment in ordinary memory.

// func update(crc uint32, p []byte) uint32
TEXT ·update(SB), NOSPLIT, $0-36
	MOVWU crc+0(FP), R0
	MOVD  p_base+8(FP), R1
	MOVD  p_len+16(FP), R2
	MVNW  R0, R0

	SUBS $16, R2
	BLT  words

two:
	LDP.P   16(R1), (R3, R4)
	CRC32CX R3, R0
	CRC32CX R4, R0
	SUBS    $16, R2
	BGE     two

words:
	// R2 is the rest minus 16: its low four bits are those of the rest.
	TBZ     $3, R2, half
	MOVD.P  8(R1), R3
	CRC32CX R3, R0

half:
	TBZ     $2, R2, quarter
	MOVWU.P 4(R1), R3
	CRC32CW R3, R0

quarter:
	TBZ     $1, R2, last
	MOVHU.P 2(R1), R3
	CRC32CH R3, R0

last:
	TBZ     $0, R2, done
	MOVBU   (R1), R3
	CRC32CB R3, R0

done:
	MVNW  R0, R0
	MOVWU R0, ret+32(FP)
	RET

// func frame(a, b, c, d, e uint64, p []byte) uint32
//
// update over p, and words5 with its result in the high half of d. The first three
// words do not wait for p.
TEXT ·frame(SB), NOSPLIT, $0-68
	MOVD    a+0(FP), R5
	MOVD    b+8(FP), R6
	MOVD    c+16(FP), R7
	MOVD    d+24(FP), R8
	MOVD    e+32(FP), R9
	MOVD    p_base+40(FP), R1
	MOVD    p_len+48(FP), R2
	MOVD    $-1, R0
	MOVD    $-1, R10
	CRC32CX R5, R10
	CRC32CX R6, R10
	CRC32CX R7, R10

	SUBS $16, R2
	BLT  words

two:
	LDP.P   16(R1), (R3, R4)
	CRC32CX R3, R0
	CRC32CX R4, R0
	SUBS    $16, R2
	BGE     two

words:
	// R2 is the rest minus 16: its low four bits are those of the rest.
	TBZ     $3, R2, half
	MOVD.P  8(R1), R3
	CRC32CX R3, R0

half:
	TBZ     $2, R2, quarter
	MOVWU.P 4(R1), R3
	CRC32CW R3, R0

quarter:
	TBZ     $1, R2, last
	MOVHU.P 2(R1), R3
	CRC32CH R3, R0

last:
	TBZ     $0, R2, done
	MOVBU   (R1), R3
	CRC32CB R3, R0

done:
	MVNW    R0, R0
	ORR     R0<<32, R8, R8
	CRC32CX R8, R10
	CRC32CX R9, R10
	MVNW    R10, R10
	MOVWU   R10, ret+64(FP)
	RET

// func words5(a, b, c, d, e uint64) uint32
TEXT ·words5(SB), NOSPLIT, $0-44
	MOVD    a+0(FP), R1
	MOVD    b+8(FP), R2
	MOVD    c+16(FP), R3
	MOVD    d+24(FP), R4
	MOVD    e+32(FP), R5
	MOVD    $-1, R0
	CRC32CX R1, R0
	CRC32CX R2, R0
	CRC32CX R3, R0
	CRC32CX R4, R0
	CRC32CX R5, R0
	MVNW    R0, R0
	MOVWU   R0, ret+40(FP)
	RET

// func hide(p []byte) []byte
TEXT ·hide(SB), NOSPLIT, $0-48
	MOVD p_base+0(FP), R0
	MOVD p_len+8(FP), R1
	MOVD p_cap+16(FP), R2
	MOVD R0, ret_base+24(FP)
	MOVD R1, ret_len+32(FP)
	MOVD R2, ret_cap+40(FP)
	RET
