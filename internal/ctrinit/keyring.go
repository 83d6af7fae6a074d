package ctrinit

import (
	"errors"
	"hash/fnv"
	"runtime"

	"golang.org/x/sys/unix"
)

// keyringPerm are the rights to a container's session keyring: all for who is
// in it. Its owner and group may find it by its name, which is how an exec gets
// there, and nothing else: all of an ordinary user's containers have the same
// owner, and who may link a keyring has what is in it.
const keyringPerm = 0x3f080800 // keyctl(2): possessor, owner, group, others

// joinKeyring goes into the session keyring of that name, made if need be: the
// one that we have is the caller's, with whatever keys he has in it.
func joinKeyring(name string) error {
	err := enterKeyring(name)
	if err == unix.EDQUOT {
		err = enterAtOthersCost(name)
	}
	if err == unix.ENOSYS || err == unix.EPERM {
		return nil // a kernel without keyrings, or a filter around us: nothing is shared
	}
	if err == unix.EDQUOT {
		return errors.New("this user has as many keys as kernel.keys.maxkeys or maxbytes in sysctl allows: disk quota exceeded")
	}
	return err
}

func enterKeyring(name string) error {
	id, err := unix.KeyctlJoinSessionKeyring(name)
	if err == nil {
		err = unix.KeyctlSetperm(id, keyringPerm)
	}
	if err == unix.EACCES {
		return nil // another user has made it, and has done that
	}
	return err
}

// enterAtOthersCost has the keyring made by another user of the namespace, when
// ours has no room for a key: the kernel allows an ordinary user 200, all his
// containers together. Which users are mapped is tried.
func enterAtOthersCost(name string) error {
	made, entered := make(chan error), make(chan struct{})
	go func() {
		// A thread of its own, which becomes that user and ends.
		runtime.LockOSThread()
		made <- makeAsOther(name)
		<-entered // it lives as long as somebody is in it
	}()
	defer close(entered)
	if err := <-made; err != nil {
		return err
	}
	return enterKeyring(name)
}

func makeAsOther(name string) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	err := error(unix.EDQUOT)
	for n := 0; n < 16 && err == unix.EDQUOT; n++ {
		other := uintptr(1 + h.Sum32()%(0xffff>>n))
		// Of this thread; x/sys would do it to all. The saved user is the way back.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, other, other, 0); errno != 0 {
			continue
		}
		err = enterKeyring(name)
		_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	}
	return err
}
