package rootless

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ownthread"
)

// Network is the network namespace in which the bridges of a user's store
// are: what the host's is for root. It lives as long as a container's monitor
// lives in it, and no longer. One process, the keeper, connects it with the
// host (pasta or slirp4netns), dies when nobody is left in it, and is made
// anew by the next command when it was killed.
//
// Who there is, is told by locks on bytes of a file, as with the user
// namespace (members.go): byte 0 is locked by whoever looks or makes, byte 1 by
// the keeper, one byte by each monitor that lives there, and one by each
// command that is about to put one there.
type Network struct {
	Path string // of the file
	// Keep starts the keeper for a namespace. It returns once the keeper has
	// its lock and the namespace is connected.
	Keep func(netns, file int) error

	mu   sync.Mutex
	file *members // never closed: our locks would go with it
	in   bool     // our byte is locked
}

// Bytes of the file, and where the keeper has the namespace open.
const (
	Keeper        = 1
	Residents     = 2                 // + process ID: a monitor
	visitors      = Residents + 1<<32 // + process ID: a command
	KeptNamespace = 64
)

// Join gives a descriptor of the namespace, made and connected if need be, and
// the file. Until this process ends the namespace is kept. The namespace is the
// caller's to close, the file is not.
func (n *Network) Join() (netns, file int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.open(); err != nil {
		return -1, -1, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		netns, err := n.join()
		if err == nil {
			return netns, n.file.fd, nil
		}
		if !errors.Is(err, errLeaving) || time.Now().After(deadline) {
			return -1, -1, cove.E("join the network of this user", "", cove.KindOf(err), err)
		}
	}
}

// errLeaving tells that the keeper is on its way out.
var errLeaving = errors.New("its keeper does not end")

func (n *Network) open() error {
	if n.file != nil {
		return nil
	}
	fd, err := unix.Open(n.Path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return cove.E("join the network of this user", n.Path, cove.Internal, err)
	}
	n.file = &members{fd: fd, path: n.Path}
	return nil
}

func (n *Network) join() (int, error) {
	f := n.file
	if err := f.lock(unix.F_SETLKW, unix.F_WRLCK, 0); err != nil {
		return -1, err
	}
	defer func() { _ = f.lock(unix.F_SETLK, unix.F_UNLCK, 0) }()
	keeper, err := n.keeper()
	if err != nil {
		return -1, err
	}
	if keeper != 0 {
		netns, err := unix.Open(kept(keeper), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, errLeaving
		}
		if err := n.enter(); err != nil {
			_ = unix.Close(netns)
			return -1, errLeaving
		}
		return netns, nil
	}
	netns, err := n.inhabited()
	if err == nil && netns < 0 {
		netns, err = newNetwork()
	}
	if err == nil {
		err = n.enter()
	}
	if err == nil {
		err = n.Keep(netns, f.fd)
	}
	if err != nil && netns >= 0 {
		_ = unix.Close(netns)
	}
	return netns, err
}

func kept(keeper int) string {
	return fmt.Sprintf("/proc/%d/fd/%d", keeper, KeptNamespace)
}

// enter locks our byte. It fails when the keeper has found nobody.
func (n *Network) enter() error {
	if n.in {
		return nil
	}
	err := n.file.lock(unix.F_SETLK, unix.F_RDLCK, visitors+int64(os.Getpid()))
	n.in = err == nil
	return err
}

// Find gives a descriptor of the namespace, -1 when there is none.
func (n *Network) Find() (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := os.Lstat(n.Path); err != nil {
		return -1, nil
	}
	if err := n.open(); err != nil {
		return -1, err
	}
	keeper, err := n.keeper()
	if err == nil && keeper != 0 {
		if netns, err := unix.Open(kept(keeper), unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			return netns, nil
		}
	}
	if err != nil {
		return -1, err
	}
	return n.inhabited()
}

// Kept tells whether the namespace is connected.
func (n *Network) Kept() (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.open(); err != nil {
		return false, err
	}
	keeper, err := n.keeper()
	return keeper != 0, err
}

// keeper gives the process that holds the keeper's lock, 0 for none.
func (n *Network) keeper() (int, error) {
	pid, _, err := n.file.holder(Keeper, 1)
	return pid, err
}

// inhabited gives the namespace that a monitor lives in, -1 when there is none.
func (n *Network) inhabited() (int, error) {
	for at := int64(Residents); at < visitors; {
		pid, next, err := n.file.holder(at, visitors-at)
		if err != nil || pid == 0 {
			return -1, err
		}
		if fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			return fd, nil
		}
		at = next
	}
	return -1, nil
}

// newNetwork makes a network namespace whose loopback is up.
func newNetwork() (int, error) {
	return ownthread.Run(func() (int, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return -1, err
		}
		if err := loopbackUp(); err != nil {
			return -1, err
		}
		return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
