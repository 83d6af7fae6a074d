#include "textflag.h"

// cove_enter: see enter_amd64.s.
TEXT cove_enter(SB),NOSPLIT|NOFRAME,$0
	MOVD	8(RSP), R19	// argv[0]
	CBZ	R19, start
	MOVD	$0x3a736e2d65766f63, R9	// "cove-ns:"
	MOVD	0(R19), R10
	CMP	R9, R10
	BNE	start
	MOVBU	9(R19), R0	// the descriptor, two digits of base 64
	SUB	$48, R0
	LSL	$6, R0
	MOVBU	10(R19), R9
	SUB	$48, R9
	ADD	R9, R0
	MOVBU	8(R19), R9
	CMP	$104, R9	// 'h'
	BEQ	hold
	MOVD	$0x10000000, R1	// CLONE_NEWUSER
	CMP	$85, R9	// 'U': nothing more than that
	BEQ	join
	MOVD	$0x80, R1	// CLONE_NEWTIME
	CMP	$84, R9	// 'T'
	BEQ	join
	MOVD	$0x10000080, R1
	CMP	$66, R9	// 'B': both, of a process
	BEQ	join
	MOVD	$0x10000000, R1
	MOVD	$268, R8	// setns
	SVC
	CBNZ	R0, failed
	MOVD	$117, R9	// 'u': in the user namespace
	MOVB	R9, 8(R19)
	MOVD	$0x20000, R0	// CLONE_NEWNS
	MOVD	$97, R8	// unshare
	SVC
	CBNZ	R0, failed
	MOVD	$109, R9	// 'm': and in a mount namespace of its own
	MOVB	R9, 8(R19)
	B	start

join:
	MOVD	$268, R8	// setns
	SVC
	CBNZ	R0, failed
	MOVD	$106, R9	// 'j': joined
	MOVB	R9, 8(R19)
	B	start

failed:
	NEG	R0, R0
	MOVB	R0, 11(R19)

start:
	JMP	_rt0_arm64_linux(SB)

hold:
	// Until the other end of the pipe is closed, or longest until killed.
	ADD	$11, R19, R1
	MOVD	$1, R2
	MOVD	$63, R8	// read
	SVC
	MOVD	$0, R0
	MOVD	$94, R8	// exit_group
	SVC
	BRK
