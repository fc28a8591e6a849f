//go:build !race

#include "go_asm.h"
#include "textflag.h"

// func CopyFrame(dst, src []byte, a, b, c, d, e uint64) uint32
//
// frame over src, each word of which is stored while it is in a register: it is read
// once, and what is summed is what is stored. The last word is stored whole, filled up
// with zeros. What this is not for, the twin does, or panics.
TEXT ·CopyFrame(SB), NOSPLIT, $0-92
	MOVQ   dst_base+0(FP), DI
	MOVQ   src_base+24(FP), SI
	MOVQ   src_len+32(FP), CX
	CMPB   ·hasInstruction(SB), $0
	JEQ    twin
	CMPQ   CX, $const_longBytes
	JGE    twin
	LEAQ   7(CX), BX
	ANDQ   $~7, BX
	CMPQ   BX, dst_len+8(FP)
	JGT    twin
	MOVQ   CX, BX
	MOVL   $-1, AX
	MOVL   $-1, DX
	CRC32Q a+48(FP), DX
	CRC32Q b+56(FP), DX
	CRC32Q c+64(FP), DX

	SUBQ $32, CX
	JLT  words

four:
	MOVQ   0(SI), R8
	MOVQ   8(SI), R9
	MOVQ   16(SI), R10
	MOVQ   24(SI), R11
	MOVQ   R8, 0(DI)
	MOVQ   R9, 8(DI)
	MOVQ   R10, 16(DI)
	MOVQ   R11, 24(DI)
	CRC32Q R8, AX
	CRC32Q R9, AX
	CRC32Q R10, AX
	CRC32Q R11, AX
	ADDQ   $32, SI
	ADDQ   $32, DI
	SUBQ   $32, CX
	JGE    four

words:
	// CX is the rest minus 32: its low five bits are those of the rest.
	BTL    $4, CX
	JCC    word
	MOVQ   0(SI), R8
	MOVQ   8(SI), R9
	MOVQ   R8, 0(DI)
	MOVQ   R9, 8(DI)
	CRC32Q R8, AX
	CRC32Q R9, AX
	ADDQ   $16, SI
	ADDQ   $16, DI

word:
	BTL    $3, CX
	JCC    rest
	MOVQ   0(SI), R8
	MOVQ   R8, 0(DI)
	CRC32Q R8, AX
	ADDQ   $8, SI
	ADDQ   $8, DI

rest:
	ANDL $7, CX
	JEQ  done
	CMPQ BX, $8
	MOVL CX, BX
	JLT  bytes

	// The last eight bytes of src end in the rest: shift the others out.
	MOVQ -8(SI)(CX*1), R8
	NEGL CX
	SHLL $3, CX
	SHRQ CX, R8
	JMP  tail

bytes:
	// src has fewer than eight bytes in all.
	XORL R8, R8

byte:
	MOVBLZX -1(SI)(CX*1), R9
	SHLQ    $8, R8
	ORQ     R9, R8
	SUBQ    $1, CX
	JNE     byte

tail:
	MOVQ   R8, 0(DI)
	BTL    $2, BX
	JCC    quarter
	CRC32L R8, AX
	SHRQ   $32, R8

quarter:
	BTL    $1, BX
	JCC    last
	CRC32W R8, AX
	SHRQ   $16, R8

last:
	BTL    $0, BX
	JCC    done
	CRC32B R8, AX

done:
	NOTL   AX
	SHLQ   $32, AX
	ORQ    d+72(FP), AX
	CRC32Q AX, DX
	CRC32Q e+80(FP), DX
	NOTL   DX
	MOVL   DX, ret+88(FP)
	RET

twin:
	JMP ·copyThenSum(SB)
