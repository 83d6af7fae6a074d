package rootless

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A user namespace made in another one, as a container's root may do, is not
// taken for one that the user has made.
func TestIsParent(t *testing.T) {
	nested := func(script string) (pid int) {
		cmd := exec.Command("sh", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Skip("needs user namespaces: ", err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		buf := make([]byte, 16)
		n, err := out.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if pid, err = strconv.Atoi(string(buf[:n-1])); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	open := func(pid int) int {
		fd, _, err := namespaceOf(pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	own := open(os.Getpid())
	if child := open(nested("echo $$; exec sleep 100")); !isParent(own, child) {
		t.Error("a namespace made here is not known")
	}
	if grandchild := open(nested(`exec unshare -U sh -c 'echo $$; exec sleep 100'`)); isParent(own, grandchild) {
		t.Error("a namespace made in another one passes for one made here")
	}
}
