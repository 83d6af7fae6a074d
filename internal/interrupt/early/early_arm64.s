#include "textflag.h"

// note is a signal handler, called by the kernel with the signal's number: see
// early.go. It returns to the kernel's own code (the vdso).
TEXT note<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	R0, ·noted(SB)
	RET

DATA ·noteSignal(SB)/8, $note<>(SB)
GLOBL ·noteSignal(SB), NOPTR, $8
