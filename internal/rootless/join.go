package rootless

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// A time namespace, too, wants a process of one thread to enter it. Mark and
// Joined are for the OCI runtime's program, which is linked as cove is.

const joined = 'j'

// Mark is argv[0] for a program that is to begin in namespaces, given by a
// descriptor that it inherits: of a namespace, or of a process for more than
// one kind of them. kinds are CLONE_NEWUSER, CLONE_NEWTIME or both. The rest of
// the arguments moves up.
func Mark(kinds int, fd int) (string, error) {
	letters := map[int]byte{unix.CLONE_NEWUSER: 'U', unix.CLONE_NEWTIME: 'T', unix.CLONE_NEWUSER | unix.CLONE_NEWTIME: 'B'}
	what, ok := letters[kinds]
	if !ok || fd > maxFD {
		return "", cove.E("join namespaces", "", cove.Internal, errors.New("cannot be marked"))
	}
	return marked(what, fd), nil
}

// Joined tells how that went. A program without a mark is where it should be.
func Joined() error {
	if entered == "" || len(entered) >= 12 && entered[8] == joined {
		return nil
	}
	if len(entered) < 12 || entered[11] == ' ' {
		return cove.E("join namespaces", "", cove.Internal, errors.New("this program was linked without -E cove_enter (make build does it)"))
	}
	return cove.E("join namespaces", "", cove.Denied, syscall.Errno(entered[11]))
}
