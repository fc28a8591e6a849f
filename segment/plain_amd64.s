#include "go_asm.h"
#include "textflag.h"

// func plainFrames(body []byte, seq, salt uint64) (at int64, next uint64)
//
// SI is the frame at hand, DI the end of body, R8 its sequence number, R9 the salt. Each
// word and each part of a header that decides about memory is loaded once.
TEXT ·plainFrames(SB), NOSPLIT, $0-56
	MOVQ body_base+0(FP), SI
	MOVQ body_len+8(FP), DI
	MOVQ seq+24(FP), R8
	MOVQ salt+32(FP), R9
	ADDQ SI, DI
	PXOR X1, X1

frame:
	LEAQ const_FrameHeader(SI), R10
	CMPQ R10, DI
	JHI  done

	// The word: committed, of one message, and as its check says.
	MOVQ   (SI), AX
	MOVQ   AX, BX
	ANDQ   ·messageMask(SB), BX
	CMPQ   BX, ·messageBits(SB)
	JNE    done
	MOVQ   AX, BX
	SHLQ   $8, BX
	MOVQ   BX, X0
	PSADBW X1, X0
	MOVQ   X0, BX
	MOVQ   AX, DX
	SHRQ   $56, DX
	CMPB   BX, DX
	JNE    done

	// CX is the length of the content, R11 the end of the frame.
	ANDL $((1<<const_lengthBits)-1), AX
	MOVL AX, CX
	CMPL CX, $const_plainBytes
	JGE  done
	LEAQ 7(CX), DX
	ANDQ $~7, DX
	LEAQ (R10)(DX*1), R11
	CMPQ R11, DI
	JHI  done

	// R12 is the length of the metadata.
	MOVQ const_offCRC(SI), BX
	MOVQ BX, R12
	SHRQ $const_metaShift, R12
	CMPQ R12, CX
	JHI  done
	SHRQ $const_kindShift, BX
	CMPB BX, $const_KindMessage
	JNE  done

	// DX is the sum of the five words, as far as it does not wait for the content.
	SHLQ   $48, BX
	BTSQ   $32, BX
	ORQ    CX, BX
	MOVL   $-1, DX
	CRC32Q R9, DX
	CRC32Q R8, DX
	CRC32Q BX, DX

	MOVL $-1, AX
	SUBQ $32, CX
	JLT  words

four:
	CRC32Q 0(R10), AX
	CRC32Q 8(R10), AX
	CRC32Q 16(R10), AX
	CRC32Q 24(R10), AX
	ADDQ   $32, R10
	SUBQ   $32, CX
	JGE    four

words:
	// CX is the rest minus 32: its low five bits are those of the rest.
	BTL    $4, CX
	JCC    word
	CRC32Q 0(R10), AX
	CRC32Q 8(R10), AX
	ADDQ   $16, R10

word:
	BTL    $3, CX
	JCC    half
	CRC32Q 0(R10), AX
	ADDQ   $8, R10

half:
	BTL    $2, CX
	JCC    quarter
	CRC32L 0(R10), AX
	ADDQ   $4, R10

quarter:
	BTL    $1, CX
	JCC    last
	CRC32W 0(R10), AX
	ADDQ   $2, R10

last:
	BTL    $0, CX
	JCC    summed
	CRC32B 0(R10), AX

summed:
	NOTL   AX
	SHLQ   $32, AX
	ORQ    R12, AX
	CRC32Q AX, DX
	CRC32Q const_offTime(SI), DX
	NOTL   DX
	CMPL   DX, const_offCRC(SI)
	JNE    done
	MOVQ   R11, SI
	INCQ   R8
	JMP    frame

done:
	SUBQ body_base+0(FP), SI
	MOVQ SI, at+40(FP)
	MOVQ R8, next+48(FP)
	RET

// func fetchLines(p []byte)
TEXT ·fetchLines(SB), NOSPLIT, $0-24
	MOVQ p_base+0(FP), SI
	MOVQ p_len+8(FP), CX
	ADDQ SI, CX
	JMP  more

line:
	PREFETCHT0 (SI)
	ADDQ       $64, SI

more:
	CMPQ SI, CX
	JLT  line
	RET
