// Package rootless lets cove work for an ordinary user: it finds or makes the
// user namespace that all containers of the user share, and goes into it.
//
// In there the user is root, his subordinate IDs (subuid(5)) are the other
// users, and everything else of cove works as it does for root. The namespace
// has to be the same one for all of a user's containers, or a command could
// neither signal nor enter nor remove what another one has made. Nothing is
// kept running for it: it lives as long as a command or a container's monitor
// lives in it, and is found again by them (members.go).
//
// Each command has a mount namespace of its own, so that no mount of a command
// outlives it and none is stale.
package rootless

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// The environment's words are those of the ecosystem's libraries: they tell
// them, too, that this root is an ordinary user.
const (
	doneVar   = "_CONTAINERS_USERNS_CONFIGURED"
	uidVar    = "_CONTAINERS_ROOTLESS_UID"
	gidVar    = "_CONTAINERS_ROOTLESS_GID"
	memberVar = "_COVE_USERNS_MEMBER" // descriptor of the member file
)

var variables = []string{doneVar, uidVar, gidVar, memberVar}

// mark begins argv[0] of a program that cove_enter (enter_amd64.s) is to take
// into a user namespace. Then follow: what is to be done or was, the
// namespace's descriptor (or the pipe's) in two digits of base 64, and room
// for an errno.
const mark = "cove-ns:"

const (
	enter  = 'e'
	hold   = 'h'
	inUser = 'u'
	inside = 'm'
)

func marked(what byte, fd int) string {
	return mark + string([]byte{what, byte('0' + fd>>6), byte('0' + fd&63), ' '})
}

// maxFD is the largest descriptor that a mark can hold.
const maxFD = 64*64 - 1

// entered is argv[0] if it was a mark.
var entered string

func init() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[0], mark) {
		entered, os.Args = os.Args[0], os.Args[1:]
	}
}

// me is this process's user, once Enter has found out.
var me struct {
	rootless bool
	uid, gid int
	member   int
}

// User gives the ordinary user on whose behalf cove runs. ok is false for
// root.
func User() (uid, gid int, ok bool) { return me.uid, me.gid, me.rootless }

// Member gives the descriptor of the file by whose locks the members of the
// user namespace are found, -1 for root. A monitor is handed it.
func Member() int {
	if !me.rootless {
		return -1
	}
	return me.member
}

// Enter makes sure that this process is root, of a user namespace if need be.
// For an ordinary user it replaces the program by itself, from its beginning
// and inside: nothing that cannot be done twice may come before it. warn is
// told what the user should know; leave is called right before the program is replaced.
func Enter(warn func(string), leave func()) error {
	if entered != "" {
		if err := arrival(entered); err != nil {
			return err
		}
	}
	uid := os.Geteuid()
	if uid != 0 {
		if entered != "" {
			return cove.E("enter user namespace", "", cove.Internal, errors.New("it maps this user to another one than root"))
		}
		return enterAs(uid, os.Getegid(), warn, leave)
	}
	host, err := OwnsHost()
	if err != nil {
		return cove.E("find out who this is", "", cove.Internal, err)
	}
	user, err := strconv.Atoi(os.Getenv(uidVar))
	if host || err != nil || user <= 0 || os.Getenv(doneVar) == "" {
		// The real root, or root of a container: whatever the environment
		// says.
		for _, name := range variables {
			_ = os.Unsetenv(name)
		}
		return nil
	}
	return settle(user)
}

// arrival reads what cove_enter has made of the mark.
func arrival(mark string) error {
	fail := func(err error) error { return cove.E("enter user namespace", "", cove.Denied, err) }
	if len(mark) < 12 {
		return fail(errors.New("malformed argv[0]"))
	}
	if mark[8] == inside {
		return nil
	}
	errno := syscall.Errno(mark[11])
	switch {
	case errno == ' ':
		return cove.E("enter user namespace", "", cove.Internal, errors.New("this program was linked without -E cove_enter (make build does it)"))
	case mark[8] == inUser:
		return fail(fmt.Errorf("make a mount namespace: %w", errno))
	}
	return fail(errno)
}

// OwnsHost tells whether this process's user IDs are the host's own.
func OwnsHost() (bool, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // a kernel without user namespaces
	}
	f := bytes.Fields(text)
	return len(f) == 3 && string(f[0]) == "0" && string(f[1]) == "0" && string(f[2]) == "4294967295", err
}

// enterAs goes into the user's namespace and does not return unless it fails.
func enterAs(uid, gid int, warn func(string), leave func()) error {
	m, err := openMembers(uid)
	if err != nil {
		return err
	}
	ns, err := m.find()
	if err == nil && ns < 0 {
		ns, err = create(uid, gid, warn)
		if err == nil {
			err = m.found(ns)
		}
	}
	if err != nil {
		return err
	}
	if err := m.enter(); err != nil {
		return err
	}
	if ns > maxFD {
		return cove.E("enter user namespace", "", cove.Internal, errors.New("too many files are open"))
	}
	for _, fd := range []int{ns, m.fd} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return cove.E("enter user namespace", "", cove.Internal, err)
		}
	}
	env := append(Environ(), doneVar+"=done", uidVar+"="+strconv.Itoa(uid), gidVar+"="+strconv.Itoa(gid), memberVar+"="+strconv.Itoa(m.fd))
	leave()
	err = syscall.Exec("/proc/self/exe", append([]string{marked(enter, ns)}, os.Args...), env)
	return cove.E("enter user namespace", "", cove.Internal, err)
}

// Environ is the environment without what this package has put there.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(variables, name)
	})
}

// settle is the rest of entering, inside.
func settle(uid int) error {
	me.rootless, me.uid = true, uid
	me.gid, _ = strconv.Atoi(os.Getenv(gidVar))
	// setns has made us invisible to the user's other commands, which look
	// for the namespace here; exec was of /proc/self/exe.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	_ = os.WriteFile("/proc/self/comm", []byte("cove"), 0)
	fd, err := strconv.Atoi(os.Getenv(memberVar))
	if err != nil || !isMember(fd) {
		// Another engine has made the namespace: podman unshare.
		m, err := openMembers(uid)
		if err != nil {
			return err
		}
		if err := m.adopt(); err != nil {
			return err
		}
		fd = m.fd
	}
	unix.CloseOnExec(fd)
	me.member = fd
	return nil
}

// Exec replaces the program by another one that calls Enter. It returns only
// when that cannot be.
func Exec(path string, args []string) error {
	if me.rootless {
		// The lock goes with the descriptor.
		if _, err := unix.FcntlInt(uintptr(me.member), unix.F_SETFD, 0); err != nil {
			return err
		}
		if err := os.Setenv(memberVar, strconv.Itoa(me.member)); err != nil {
			return err
		}
	}
	return syscall.Exec(path, args, os.Environ())
}
