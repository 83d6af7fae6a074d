package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Who is the user of a container becomes the owner of its pipes and of files that
// it writes to, and of nothing else that happens to be a stream.
func TestRuntimeStreamsOwner(t *testing.T) {
	b := newBundle(t, "cat; echo out; echo err >&2; echo more > /dev/stderr")
	b.Process.User = specs.User{UID: 7, GID: 8}
	b.Process.Capabilities = nil
	b.write()
	owner := func(f *os.File) uint32 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid
	}
	open := func(name string, flags int) *os.File {
		f, err := os.OpenFile(name, flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	secret := filepath.Join(b.dir, "secret")
	if err := os.WriteFile(secret, []byte("in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := open(secret, os.O_RDONLY)
	out := open(filepath.Join(b.dir, "written"), os.O_CREATE|os.O_WRONLY)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := b.command("run", "--bundle", b.dir, "c")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, w
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if got := []uint32{owner(in), owner(out), owner(w)}; got[0] != 0 || got[1] != 7 || got[2] != 7 {
		t.Errorf("owners: %v", got)
	}
	text, _ := os.ReadFile(filepath.Join(b.dir, "written"))
	b.expect(string(text), "in\nout")

	zero := filepath.Join(b.dir, "zero")
	if err := unix.Mknod(zero, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	b.Process.Args = []string{"true"}
	b.write()
	for _, name := range []string{zero, b.dir} {
		f := open(name, os.O_RDONLY)
		cmd := b.command("run", "--bundle", b.dir, "c")
		cmd.Stdin = f
		if out, err := cmd.CombinedOutput(); err != nil || owner(f) != 0 {
			t.Errorf("%s: %v %s, owner %d", name, err, out, owner(f))
		}
	}
}

// The pid file goes where it was asked for, whatever others have put beside it.
func TestRuntimePIDFileLink(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.write()
	victim, file := filepath.Join(b.dir, "victim"), filepath.Join(b.dir, "pid")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".pid", "pid"} {
		if err := os.Symlink(victim, filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := b.command("run", "--detach", "--pid-file", file, "--bundle", b.dir, "c")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid, _ := os.ReadFile(file)
	b.expect(string(pid), strconv.Itoa(b.state().PID))
	text, _ := os.ReadFile(victim)
	b.expect(string(text), "untouched")
}

// In a user namespace devices are the host's of the same path: it has to be the
// device that was asked for.
func TestRuntimeDeviceOfHost(t *testing.T) {
	b := newBundle(t, "stat -c %t:%T /dev/zero")
	b.users()
	for _, d := range []string{"proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3}}
	b.refused("the host has another device there")
	b.Linux.Devices[0].Minor = 5
	if out := strings.TrimSpace(b.run()); out != "1:5" {
		t.Error(out)
	}
}
