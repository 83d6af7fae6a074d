package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	moby "github.com/moby/profiles/seccomp"
	library "go.podman.io/common/pkg/seccomp"
	"golang.org/x/sys/unix"
)

// The default profile lets nothing through that podman's or docker's does not, and all
// that both do, whatever the architecture and the capabilities.
func TestDefaultIsWhatBothHave(t *testing.T) {
	text, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64"} {
		for name, caps := range capSets() {
			t.Run(arch+"/"+name, func(t *testing.T) {
				target := Target{Arch: arch, Caps: caps}
				m, _ := machineOf(arch)
				var programs [3]machineCode
				var values []uint64
				for i := range programs {
					s, err := Default(target)
					switch i {
					case 1:
						s, err = convert(library.DefaultProfile()).resolve(target)
					case 2:
						s, err = Parse(text, target)
					}
					if err != nil {
						t.Fatal(err)
					}
					p, err := Compile(s, arch)
					if err != nil {
						t.Fatal(err)
					}
					programs[i] = check(t, p.BPF, m.order)
					values = append(values, samples(s)...)
				}
				abis, _ := m.pick(nil)
				for _, a := range abis {
					for _, n := range a.table {
						both(t, programs, a, n, values, caps)
					}
				}
			})
		}
	}
}

// notDockers are the calls that docker's profile has for nobody, and ours, as podman's,
// for who has the capability that the kernel asks for.
func notDockers(caps []string) (names []string) {
	if slices.Contains(caps, "CAP_SYS_ADMIN") {
		names = append(names, "keyctl", "pivot_root")
	}
	if slices.Contains(caps, "CAP_SYS_MODULE") {
		names = append(names, "query_module") // gone since Linux 2.6
	}
	return names
}

// both compares ours, podman's and docker's verdicts on a call.
func both(t *testing.T, programs [3]machineCode, a abi, n number, values []uint64, caps []string) {
	t.Helper()
	for i := range 100 {
		d := data{nr: n.nr, arch: a.audit}
		for j := range d.args {
			switch {
			case i == 0:
			case i < 50:
				d.args[j] = rand.Uint64N(50) // families, protocols
			default:
				d.args[j] = values[rand.IntN(len(values))]
			}
		}
		var lets [3]bool
		for k, p := range programs {
			ret, _ := p.run(&d)
			lets[k] = ret == unix.SECCOMP_RET_ALLOW
		}
		call := fmt.Sprintf("%s %s%#x", a.arch, n.name, d.args)
		if lets[0] && !lets[1] {
			t.Errorf("%s: wider than podman's", call)
		}
		if lets[0] && !lets[2] && !slices.Contains(notDockers(caps), n.name) {
			t.Errorf("%s: wider than docker's", call)
		}
		if lets[1] && lets[2] && !lets[0] {
			t.Errorf("%s: narrower than both", call)
		}
	}
}
