package seccomp

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	cove "github.com/cove-engine/cove"
)

// DefaultProfile must follow the profile, or the cache would go on giving the
// programs of an older one.
func TestDefaultProfileName(t *testing.T) {
	text, err := json.Marshal(defaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != DefaultProfile {
		t.Errorf("the default profile has changed: DefaultProfile must become %q", got)
	}
}

const docker = `{
	"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM",
	"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
	"syscalls": [
		{"names": ["a"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}},
		{"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
		{"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
		{"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X", "CAP_Y"]}},
		{"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_X", "CAP_Y"]}},
		{"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x86"]}},
		{"names": ["g"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
		{"name": "h", "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "args": [{"index": 1, "value": 18446744073709551615, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]},
		{"names": [], "action": "SCMP_ACT_ALLOW"}
	]}`

func TestParse(t *testing.T) {
	for _, c := range []struct {
		target Target
		want   string
		archs  int
	}{
		{Target{Arch: "amd64"}, "abefh", 2},
		{Target{Arch: "amd64", Kernel: Kernel{4, 7}}, "acefh", 2},
		{Target{Arch: "amd64", Kernel: Kernel{4, 8}, Caps: []string{"CAP_X"}}, "abfh", 2},
		{Target{Arch: "amd64", Kernel: Kernel{5, 0}, Caps: []string{"CAP_Y", "CAP_X"}}, "abdfh", 2},
		{Target{Arch: "arm64"}, "abegh", 1},
		{Target{Arch: "386", Kernel: Kernel{3, 99}}, "acefgh", 0},
	} {
		s, err := Parse([]byte(docker), c.target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range s.Syscalls {
			got += r.Names[0]
		}
		if got != c.want || len(s.Architectures) != c.archs || *s.DefaultErrnoRet != uint(unix.EPERM) {
			t.Errorf("%+v: rules %q, want %q; architectures %v", c.target, got, c.want, s.Architectures)
		}
		if last := s.Syscalls[len(s.Syscalls)-1]; *last.ErrnoRet != uint(unix.ENOSYS) || last.Args[0].Value != ^uint64(0) || last.Args[0].ValueTwo != 2 {
			t.Errorf("last rule is %+v", last)
		}
	}
	if s, err := Parse([]byte(`{}`), Target{Arch: "amd64"}); s != nil || err != nil {
		t.Errorf("an empty profile: %v, %v", s, err)
	}
	for _, text := range []string{
		``, `[]`, `{"defaultAction": 3}`, `{"defaultAction":"SCMP_ACT_ALLOW","defaultErrno":"EWHAT"}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"errno":"EWHAT"}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"includes":{"minKernel":"new"}}]}`,
	} {
		if _, err := Parse([]byte(text), Target{Arch: "amd64"}); !cove.Is(err, cove.Invalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good, big, fifo := filepath.Join(dir, "good"), filepath.Join(dir, "big"), filepath.Join(dir, "fifo")
	for path, n := range map[string]int{good: 0, big: profileLimit + 1} {
		text := append([]byte(docker), make([]byte, n)...)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(good, Target{Arch: "amd64"}); err != nil || len(s.Syscalls) != 5 {
		t.Errorf("%v, %v", s, err)
	}
	for path, kind := range map[string]cove.Kind{big: cove.Invalid, fifo: cove.Invalid, dir: cove.Invalid, dir + "/none": cove.NoFile} {
		if _, err := Load(path, Target{Arch: "amd64"}); !cove.Is(err, kind) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestErrnos(t *testing.T) {
	for name, want := range map[string]unix.Errno{
		"EPERM": 1, "38": 38, "ENOSYS": unix.ENOSYS, "EWOULDBLOCK": unix.EAGAIN, "ENOTSUP": unix.EOPNOTSUPP, "EOPNOTSUPP": unix.EOPNOTSUPP, "EHWPOISON": unix.EHWPOISON, "EDEADLOCK": unix.EDEADLK,
	} {
		if got, err := errnoOf(name, nil); err != nil || *got != uint(want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestKernel(t *testing.T) {
	for text, want := range map[string]Kernel{"4.8": {4, 8}, "5.10.0-19-amd64": {5, 10}, "6.1": {6, 1}, "6.18-rc1": {6, 18}} {
		if got, err := ParseKernel(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "a.b", "5.", ".5", "99999999999.1"} {
		if k, err := ParseKernel(text); err == nil {
			t.Errorf("%q: %v", text, k)
		}
	}
	if k, err := RunningKernel(); err != nil || k.Major < 3 {
		t.Error(k, err)
	}
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte(docker), uint8(0))
	for _, s := range profiles() {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(len(text)))
	}
	all := []string{"amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x"}
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		arch := all[int(n)%len(all)]
		s, err := Parse(text, Target{Arch: arch, Caps: []string{"CAP_X"}, Kernel: Kernel{5, uint(n)}})
		if err != nil || s == nil {
			return
		}
		p, err := Compile(s, arch)
		if err != nil {
			if k := cove.KindOf(err); k != cove.Invalid && k != cove.Unsupported {
				t.Fatalf("kind %d: %v", k, err)
			}
			return
		}
		m, _ := machineOf(arch)
		code := check(t, p.BPF, m.order)
		for _, nr := range []uint32{0, 1, 157, 0xffff, x32Bit, ^uint32(0)} {
			for _, a := range m.abis {
				if ret, _ := code.run(&data{nr: nr, arch: a.audit, args: [6]uint64{1, 2, 3, 4, 5, 6}}); !action(ret) {
					t.Fatalf("%d returns %#x", nr, ret)
				}
			}
		}
		again, err := Compile(s, arch)
		if err != nil || !slices.Equal(again.BPF, p.BPF) {
			t.Fatal("compiling twice gives two programs")
		}
	})
}
