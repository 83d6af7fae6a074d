#include "textflag.h"

// note is a signal handler, called by the kernel with the signal's number: see early.go.
TEXT note<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	DI, ·noted(SB)
	RET

TEXT back<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$15, AX	// rt_sigreturn
	SYSCALL
	INT	$3

DATA ·noteSignal(SB)/8, $note<>(SB)
GLOBL ·noteSignal(SB), NOPTR, $8
DATA ·sigreturn(SB)/8, $back<>(SB)
GLOBL ·sigreturn(SB), NOPTR, $8
