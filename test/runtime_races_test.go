package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container that ends while an exec is about to enter it has no namespaces any
// more. That is not to share those of the host: nothing is done to the host's
// mounts, and nothing is executed there.
func TestRuntimeExecEnds(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	b := newBundle(t, "sleep 60")
	b.write()
	shared := filepath.Join(b.dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	// The exec waits a second just before it makes its process. Its container is
	// the foreground's child, which reaps it and leaves what there is of it.
	script := `mount -t tmpfs none "$DIR/shared" && mount --make-shared "$DIR/shared"
		"$@" run --keep --bundle "$DIR" c >/dev/null 2>&1 </dev/null &
		until "$@" state c 2>/dev/null | grep -q '"running"'; do sleep 0.02; done
		strace -qq -o /dev/null -e trace=socketpair -e inject=socketpair:delay_exit=1000000:when=1 "$@" exec c ls "$DIR" &
		exec=$!
		sleep 0.4
		"$@" kill c KILL
		until "$@" state c | grep -q '"stopped"'; do sleep 0.02; done
		wait $exec; echo code $?
		grep -q "$DIR/shared .* shared:" /proc/self/mountinfo && echo shared`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, "sh", b.bin, "--root", b.root)
	cmd.Env = append(os.Environ(), "DIR="+b.dir)
	out, err := cmd.CombinedOutput()
	if text := string(out); err != nil || !strings.Contains(text, "code 255\n") || !strings.Contains(text, "\nshared\n") || strings.Contains(text, "config.json") {
		t.Errorf("%v: %s", err, out)
	}
}

// The root of a container without a mount namespace is none of its namespaces'.
func TestRuntimeExecChroot(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.setNamespace(specs.MountNamespace, "-")
	b.Mounts, b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = nil, nil, nil
	// The host has it mounted then.
	defer func() {
		for unix.Unmount(filepath.Join(b.dir, "rootfs"), unix.MNT_DETACH) == nil {
		}
	}()
	for _, kinds := range [][]specs.LinuxNamespaceType{nil, {specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace}} {
		for _, kind := range kinds {
			b.setNamespace(kind, "-")
		}
		b.Hostname = ""
		b.start()
		b.expect(b.ok("exec", "c", "ls", "/"), "bin\ndev\netc\nroot\ntmp")
		b.ok("delete", "--force", "c")
	}
}
