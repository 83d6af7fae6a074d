#include "textflag.h"

// cove_enter is where the program starts (the linker's -E). Joining a user
// namespace takes a process of one thread, setns(2), and Go's runtime starts
// several before it runs anything of ours; here there is but one. Unless
// argv[0] begins with "cove-ns:" (see enter.go) it is the runtime's own start.
TEXT cove_enter(SB),NOSPLIT|NOFRAME,$0
	MOVQ	8(SP), BX	// argv[0]
	TESTQ	BX, BX
	JEQ	start
	MOVQ	$0x3a736e2d65766f63, AX	// "cove-ns:"
	CMPQ	AX, 0(BX)
	JNE	start
	MOVBQZX	9(BX), DI	// the descriptor, two digits of base 64
	SUBQ	$48, DI
	SHLQ	$6, DI
	MOVBQZX	10(BX), AX
	SUBQ	$48, AX
	ADDQ	AX, DI
	CMPB	8(BX), $104	// 'h'
	JEQ	hold
	MOVQ	$0x10000000, SI	// CLONE_NEWUSER
	CMPB	8(BX), $85	// 'U': nothing more than that
	JEQ	join
	MOVQ	$0x80, SI	// CLONE_NEWTIME
	CMPB	8(BX), $84	// 'T'
	JEQ	join
	MOVQ	$0x10000080, SI
	CMPB	8(BX), $66	// 'B': both, of a process
	JEQ	join
	MOVQ	$0x10000000, SI
	MOVQ	$308, AX	// setns
	SYSCALL
	TESTQ	AX, AX
	JNE	failed
	MOVB	$117, 8(BX)	// 'u': in the user namespace
	MOVQ	$0x20000, DI	// CLONE_NEWNS
	MOVQ	$272, AX	// unshare
	SYSCALL
	TESTQ	AX, AX
	JNE	failed
	MOVB	$109, 8(BX)	// 'm': and in a mount namespace of its own
	JMP	start

join:
	MOVQ	$308, AX	// setns
	SYSCALL
	TESTQ	AX, AX
	JNE	failed
	MOVB	$106, 8(BX)	// 'j': joined
	JMP	start

failed:
	NEGQ	AX
	MOVB	AX, 11(BX)

start:
	JMP	_rt0_amd64_linux(SB)

hold:
	// Until the other end of the pipe is closed, or longest until killed.
	LEAQ	11(BX), SI
	MOVQ	$1, DX
	MOVQ	$0, AX	// read
	SYSCALL
	MOVQ	$0, DI
	MOVQ	$231, AX	// exit_group
	SYSCALL
	INT	$3
