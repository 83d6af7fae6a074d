package seccomp

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var podman = Target{Arch: "amd64", Caps: capSets()["podman"]}

// only gives the one file of a cache.
func only(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return filepath.Join(dir, files[0].Name())
}

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	c := Cache{dir}
	s, err := Default(podman)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Compile(s, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		p, err := c.Default(podman)
		if err != nil || !bytes.Equal(p.BPF, want.BPF) || p.Flags != want.Flags || p.Notify != want.Notify {
			t.Fatalf("%s: %d bytes, %v", when, len(p.BPF), err)
		}
	}
	same("first")
	path := only(t, dir)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	k := keyOf(podman, "default", []byte(DefaultProfile))
	if p, ok := decode(k, good); !ok || !bytes.Equal(p.BPF, want.BPF) {
		t.Fatal("what was written cannot be read")
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, ok := decode(k, bad); ok {
			t.Fatalf("a flipped bit at %d is not noticed", i)
		}
		if _, ok := decode(k, good[:i]); ok {
			t.Fatalf("a cut at %d is not noticed", i)
		}
	}

	// Whatever is in the way, the answer is right and the file is good again.
	foreign := Target{Arch: "amd64"}
	other := encode(keyOf(foreign, "default", nil), Program{BPF: make([]byte, 8)})
	for name, spoil := range map[string]func() error{
		"cut":       func() error { return os.Truncate(path, int64(len(good)/2)) },
		"empty":     func() error { return os.Truncate(path, 0) },
		"foreign":   func() error { return os.WriteFile(path, other, 0o600) },
		"removed":   func() error { return os.Remove(path) },
		"writable":  func() error { return os.Chmod(path, 0o622) },
		"symlink":   func() error { return replace(path, func() error { return os.Symlink("/etc/passwd", path) }) },
		"stale tmp": func() error { return replace(path, func() error { return os.WriteFile(path+".tmp", nil, 0o600) }) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		same(name)
		if now, err := os.ReadFile(only(t, dir)); err != nil || !bytes.Equal(now, good) {
			t.Errorf("%s: the file was not made good", name)
		}
		if info, _ := os.Lstat(path); info.Mode() != 0o600 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
	if os.Geteuid() == 0 {
		evil := encode(k, Program{BPF: bytes.Repeat([]byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}, 3)})
		if err := os.WriteFile(path, evil, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, _ := c.Default(podman); len(p.BPF) != 24 {
			t.Fatal("the test's own file is not used")
		}
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		same("another user's file")
	}

	// Folders that others can write, links, and none at all.
	loose := t.TempDir()
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, c.Dir = range []string{loose, link, "/proc/none", "", "relative"} {
		same("folder " + c.Dir)
	}
	if files, _ := os.ReadDir(loose); len(files) != 0 {
		t.Error("written to a folder that is not to be trusted")
	}
}

func replace(path string, with func() error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return with()
}

func TestCacheKeys(t *testing.T) {
	dir := t.TempDir()
	c := Cache{dir}
	n := 0
	added := func(what string, more int, err error) {
		t.Helper()
		files, _ := os.ReadDir(dir)
		if err != nil || len(files) != n+more {
			t.Errorf("%s: %d files after %d, %v", what, len(files), n, err)
		}
		n = len(files)
	}
	_, err := c.Default(podman)
	added("default", 1, err)
	_, err = c.Default(Target{Arch: "amd64", Kernel: Kernel{6, 1}, Caps: append([]string{"CAP_KILL"}, podman.Caps...)})
	added("same capabilities, kernel of no matter", 0, err)
	_, err = c.Default(Target{Arch: "arm64", Caps: podman.Caps})
	added("architecture", 1, err)
	_, err = c.Default(Target{Arch: "amd64", Caps: []string{"CAP_SYS_ADMIN"}})
	added("capabilities", 1, err)
	_, err = c.Profile([]byte(docker), podman)
	added("profile", 1, err)
	_, err = c.Profile([]byte(docker+" "), podman)
	added("other bytes", 1, err)
	_, err = c.Profile([]byte(docker), Target{Arch: "amd64", Kernel: Kernel{4, 1}, Caps: podman.Caps})
	added("kernel", 1, err)
	p, err := c.Profile([]byte("{}"), podman)
	added("seccomp off", 0, err)
	if p.BPF != nil {
		t.Error("a program for an empty profile")
	}
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{call(specs.ActNotify, "mount")}}
	for _, more := range []int{1, 0} {
		p, err = c.Spec(s, "amd64")
		added("spec", more, err)
		if !p.Notify || p.Flags != 8 {
			t.Errorf("%+v", p)
		}
	}
	if _, err = c.Spec(nil, "amd64"); err == nil {
		t.Error("a nil spec")
	}
	_, err = c.Profile([]byte("{"), podman)
	if err == nil {
		t.Error("a broken profile")
	}
}

func TestCacheTogether(t *testing.T) {
	c := Cache{t.TempDir()}
	want, err := Cache{t.TempDir()}.Default(podman)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				p, err := c.Default(podman)
				if err != nil || !bytes.Equal(p.BPF, want.BPF) {
					t.Error(len(p.BPF), err)
				}
				files, _ := filepath.Glob(c.Dir + "/*")
				for _, f := range files {
					_ = os.Truncate(f, 10)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCached(b *testing.B) {
	c := Cache{b.TempDir()}
	for b.Loop() {
		if _, err := c.Default(podman); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		s, err := Default(podman)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(s, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}
