package rootfs

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cove-engine/cove/internal/procfs"
)

// The files of a running container are at the root of its init, unless its OCI
// runtime keeps them from the host: a kernel in user space has a process beside
// it that serves the files.

// mountOptionEscapes are those of proc_pid_mountinfo(5) and, for the comma, of
// overlayfs.
var mountOptionEscapes = strings.NewReplacer(`\134`, `\`, `\040`, " ", `\011`, "\t", `\012`, "\n", `\054`, ",")

// UpperOf gives the writable layer of the root file system that a process lives
// in, "" when that has none.
func UpperOf(pid int) string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<10)) // the root is among the first
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		if fields := bytes.Fields(line); len(fields) < 5 || string(fields[4]) != "/" {
			continue
		}
		if _, rest, ok := bytes.Cut(line, []byte(",upperdir=")); ok {
			upper, _, _ := bytes.Cut(rest, []byte(","))
			return mountOptionEscapes.Replace(string(upper))
		}
	}
	return ""
}

// Resident finds the process at whose root the files of a running container are:
// init, or another child of its parent. root is what its root file system is made
// of. It gives init when there is no other; but 0 when that is a process of the
// host's, in whose place a virtual machine has the container.
func Resident(init int, root Source) int {
	has := func(pid int) bool { return root.Overlay != nil && UpperOf(pid) == root.Overlay.Upper }
	if root.Overlay == nil {
		dir, err := os.Stat(root.Dir)
		if err != nil {
			return unlessHosts(init)
		}
		has = func(pid int) bool {
			its, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/root/")
			return err == nil && os.SameFile(dir, its)
		}
	}
	if has(init) {
		return init
	}
	parent := procfs.Parent(init)
	all, err := os.ReadDir("/proc")
	if err != nil || parent == 0 {
		return unlessHosts(init)
	}
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && pid != init && procfs.Parent(pid) == parent && has(pid) {
			return pid
		}
	}
	return unlessHosts(init)
}

// unlessHosts gives a process back, and 0 for one whose root is ours.
func unlessHosts(pid int) int {
	its, err1 := os.Stat("/proc/" + strconv.Itoa(pid) + "/root/")
	ours, err2 := os.Stat("/")
	if err1 == nil && err2 == nil && os.SameFile(its, ours) {
		return 0
	}
	return pid
}
