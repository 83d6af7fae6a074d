package rootless

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// create makes a user namespace and gives a descriptor of it, which is all
// that keeps it. It is owned by a process that waits in cove_enter: a
// namespace is mapped from outside, by one who stays outside.
func create(uid, gid int, warn func(string)) (ns int, err error) {
	fail := func(err error) (int, error) { return -1, cove.E("make user namespace", "", cove.Denied, err) }
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fail(err)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{marked(hold, 3), "hold"}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, uintptr(p[0])},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER},
	})
	_ = unix.Close(p[0])
	if err != nil {
		_ = unix.Close(p[1])
		return fail(fmt.Errorf("%w (does this host allow it? see user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns in sysctl)", err))
	}
	defer func() {
		_ = unix.Close(p[1])
		_ = unix.Kill(pid, unix.SIGKILL)
		var ws unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
				break
			}
		}
	}()
	if err := mapIDs(pid, uid, gid, warn); err != nil {
		return -1, err
	}
	ns, _, err = namespaceOf(pid)
	if err != nil {
		return fail(err)
	}
	return ns, nil
}

// mapIDs gives the namespace of a process the user as root and, as all other
// users, his subordinate IDs.
func mapIDs(pid, uid, gid int, warn func(string)) error {
	name := userName(uid)
	uids, err := ranges("/etc/subuid", name, uid)
	if err != nil {
		return err
	}
	gids, err := ranges("/etc/subgid", name, uid)
	if err != nil {
		return err
	}
	if len(uids) == 0 || len(gids) == 0 {
		file := "/etc/subuid"
		if len(uids) > 0 {
			file = "/etc/subgid"
		}
		warn(fmt.Sprintf("Using rootless single mapping into the namespace, which breaks images with more than one user: %s has no range for user %q", file, name))
		return mapOne(pid, uid, gid)
	}
	failed := make(chan error, 2)
	go func() { failed <- mapByProgram("newuidmap", pid, uid, uids) }()
	go func() { failed <- mapByProgram("newgidmap", pid, gid, gids) }()
	first, second := <-failed, <-failed
	return cmp.Or(first, second) // mostly they fail for the same reason
}

// mapByProgram has the system's program write the map, newuidmap(1).
func mapByProgram(program string, pid, own int, subordinate []idRange) error {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(own), "1"}
	next := 1
	for _, r := range subordinate {
		args = append(args, strconv.Itoa(next), strconv.Itoa(r.first), strconv.Itoa(r.count))
		next += r.count
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return cove.E("make user namespace", "", cove.Unavailable, fmt.Errorf("%s is needed to map subordinate IDs and is not installed (package uidmap or shadow-utils)", program))
	}
	if err != nil {
		return cove.E("make user namespace", "", cove.Denied, fmt.Errorf("%s: %w%s", program, err, said(out)))
	}
	return nil
}

// said is what a program has printed, in one line, behind a colon.
func said(out []byte) string {
	words := strings.Fields(string(out))
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, " ")
}

// mapOne maps the user alone, which needs nobody's help, user_namespaces(7).
func mapOne(pid, uid, gid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	for _, f := range [][2]string{
		{"/setgroups", "deny"},
		{"/uid_map", fmt.Sprintf("0 %d 1\n", uid)},
		{"/gid_map", fmt.Sprintf("0 %d 1\n", gid)},
	} {
		if err := os.WriteFile(dir+f[0], []byte(f[1]), 0); err != nil {
			return cove.E("make user namespace", "", cove.Denied, err)
		}
	}
	return nil
}

// idRange are subordinate IDs.
type idRange struct{ first, count int }

// ranges reads a user's subordinate IDs, subuid(5): by name or by number.
func ranges(file, name string, uid int) ([]idRange, error) {
	var all []idRange
	err := eachLine(file, 3, func(f []string) bool {
		if f[0] != name && f[0] != strconv.Itoa(uid) {
			return false
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if r := (idRange{int(first), int(count)}); err1 == nil && err2 == nil && count > 0 && !slices.Contains(all, r) {
			all = append(all, r)
		}
		return false
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, cove.E("read subordinate IDs", file, cove.Invalid, err)
	}
	return all, nil
}

// userName is the user's name. One that /etc/passwd does not have, such as a
// directory service's, is taken from the environment: who lies there is
// refused by newuidmap.
func userName(uid int) string {
	name := ""
	err := eachLine("/etc/passwd", 3, func(f []string) bool {
		if f[2] == strconv.Itoa(uid) {
			name = f[0]
		}
		return name != ""
	})
	if err != nil || name == "" {
		return os.Getenv("USER")
	}
	return name
}

// eachLine calls f with the fields of every line that has at least n, until it
// returns true.
func eachLine(file string, n int, f func([]string) bool) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if fields := strings.Split(strings.TrimSpace(lines.Text()), ":"); len(fields) >= n && f(fields) {
			return nil
		}
	}
	return lines.Err()
}
