package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
	// The exec stands still just before it makes its process. Its container is
	// the foreground's child, which reaps it and leaves what there is of it.
	script := `mount -t tmpfs none "$DIR/shared" && mount --make-shared "$DIR/shared"
		"$@" run --keep --bundle "$DIR" c >/dev/null 2>&1 </dev/null &
		until "$@" state c 2>/dev/null | grep -q '"running"'; do sleep 0.02; done
		strace -qq -o "$DIR/trace" -e trace=socketpair -e inject=socketpair:signal=STOP:when=1 "$@" exec c ls "$DIR" &
		exec=$!
		until grep -q "stopped by SIGSTOP" "$DIR/trace" 2>/dev/null; do sleep 0.02; done
		"$@" kill c KILL
		until "$@" state c | grep -q '"stopped"'; do sleep 0.02; done
		kill -CONT $(cat /proc/$exec/task/$exec/children)
		wait $exec; echo code $?
		grep -q "$DIR/shared .* shared:" /proc/self/mountinfo && echo shared`
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", script, "sh", b.bin, "--root", b.root)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "DIR="+b.dir)
	out, err := cmd.CombinedOutput()
	if text := string(out); err != nil || !strings.Contains(text, "code 255\n") || !strings.Contains(text, "\nshared\n") || strings.Contains(text, "config.json") || strings.Contains(text, "cannot exec") {
		t.Errorf("%v: %s", err, out)
	}
}

// The root of a container without a mount namespace is none of its namespaces'.
func TestRuntimeExecChroot(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.setNamespace(specs.MountNamespace, "-")
	b.Mounts, b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = nil, nil, nil
	for _, kinds := range [][]specs.LinuxNamespaceType{nil, {specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace}} {
		for _, kind := range kinds {
			b.setNamespace(kind, "-")
		}
		b.Hostname = ""
		b.start()
		b.expect(b.ok("exec", "c", "ls", "/"), "bin\ndev\netc\nroot\ntmp")
		b.ok("delete", "--force", "c")
		if m := mountsBelow(b.dir, ""); len(m) > 0 {
			t.Errorf("left mounted: %v", m)
		}
	}
	// What is mounted inside goes, too, and after a failure; what was there stays.
	b.Mounts = []specs.Mount{{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"}}
	mine := filepath.Join(b.dir, "rootfs/root")
	if err := unix.Mount("tmpfs", mine, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mine, unix.MNT_DETACH)
	b.start()
	if m := mountsBelow(b.dir, ""); len(m) < 3 {
		t.Errorf("mounted: %v", m)
	}
	b.ok("delete", "--force", "c")
	b.Process.Args = []string{"/nothing"}
	b.refused("/nothing")
	if m := mountsBelow(b.dir, ""); len(m) != 1 || m[0] != mine {
		t.Errorf("mounted after all: %v", m)
	}
}

// What was about to be done with a container that has ended and was removed is not
// done with a later one in a cgroup of the same name.
func TestRuntimeUpdateEnds(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	a, b := newBundle(t, "sleep 60"), newBundle(t, "sleep 60")
	a.start()
	b.Linux.CgroupsPath = a.Linux.CgroupsPath
	// It stands still when it has seen that the container runs, and looks for cgroups.
	cmd, trace := a.command("update", "--pids-limit", "77", "c"), filepath.Join(a.dir, "trace")
	cmd.Args = append([]string{"strace", "-qq", "-o", trace, "-e", "trace=faccessat2", "-e", "inject=faccessat2:signal=STOP:when=1"}, cmd.Args...)
	cmd.Path = "/usr/bin/strace"
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.until("it stands still", func() bool {
		text, _ := os.ReadFile(trace)
		return strings.Contains(string(text), "stopped by SIGSTOP")
	})
	a.ok("delete", "--force", "c")
	b.start()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	update, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err == nil {
		err = unix.Kill(update, unix.SIGCONT)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "container not running") {
		t.Errorf("update: %v %s", err, out.String())
	}
	for _, d := range cgroupsAt(b.Linux.CgroupsPath) {
		if text, err := os.ReadFile(d + "/pids.max"); err == nil && string(text) != "max\n" {
			t.Errorf("%s: %s", d, text)
		}
	}
}

// Neither who waits in a hook for ever nor what is frozen is in the way of a delete
// by force.
func TestRuntimeDeleteForce(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.start()
	b.ok("pause", "c")
	b.ok("delete", "--force", "c")
	started := filepath.Join(b.dir, "started")
	b.Hooks = &specs.Hooks{
		StartContainer: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}}},
		Poststart:      []specs.Hook{{Path: "/bin/touch", Args: []string{"touch", started}}},
	}
	b.create()
	start := b.command("start", "c")
	var out strings.Builder
	start.Stdout, start.Stderr = &out, &out
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("the hook runs", func() bool { out, err := b.try("ps", "c"); return err == nil && strings.Contains(out, "sleep 1000") })
	b.ok("delete", "--force", "c")
	if err := start.Wait(); err == nil || !strings.Contains(out.String(), "in the stopped state") || exists(started) {
		t.Errorf("start: %v %s, a hook after it: %v", err, out.String(), exists(started))
	}
}

// Whatever is done with one container at once, by many, is done one after the other
// or refused: nobody's container is lost.
func TestRuntimeOneID(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.write()
	expected := regexp.MustCompile(`already exists|does not exist|in the (running|paused|stopped|creating) state|container not running|it is (creating|stopped|paused)|ended by a signal|init ended with code 1|device or resource busy|did not follow in time`)
	var all sync.WaitGroup
	begun := time.Now()
	var made [4]int
	for i := range made {
		all.Go(func() {
			for took := time.Duration(0); (took < 5*time.Second || made[i] == 0 && took < patience) && !t.Failed(); took = time.Since(begun) {
				for _, args := range [][]string{
					{"create", "--bundle", b.dir, "c"}, {"start", "c"}, {"update", "--pids-limit", "100", "c"}, {"pause", "c"}, {"delete", "--force", "c"},
				} {
					cmd := b.command(args...)
					out, err := os.CreateTemp(b.dir, "out")
					if err != nil {
						t.Error(err)
						return
					}
					cmd.Stdout, cmd.Stderr = out, out
					err = cmd.Run()
					text, _ := os.ReadFile(out.Name())
					_ = out.Close()
					_ = os.Remove(out.Name())
					if err == nil && args[0] == "create" {
						made[i]++
					}
					if err != nil && !expected.Match(text) {
						t.Errorf("%v: %v %s", args, err, text)
					}
				}
			}
		})
	}
	all.Wait()
	for _, n := range made {
		if n == 0 {
			t.Errorf("made: %v", made)
		}
	}
	b.ok("delete", "--force", "c")
}

// What is bound upon /proc is a procfs when it is bound, not when it is looked at
// once more: its path may be another container's to exchange.
func TestRuntimeProcExchanged(t *testing.T) {
	b := newBundle(t, "test -e /proc/fake && echo fell")
	fake, link := filepath.Join(b.dir, "a"), filepath.Join(b.dir, "b")
	if err := errors.Join(os.Mkdir(fake, 0o755), os.Mkdir(fake+"/fake", 0o755), os.Symlink("/proc", link)); err != nil {
		t.Fatal(err)
	}
	b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = nil, nil
	for i := range b.Mounts {
		if b.Mounts[i].Destination == "/proc" {
			b.Mounts[i] = specs.Mount{Destination: "/proc", Source: fake, Type: "bind", Options: []string{"bind"}}
		}
	}
	b.write()
	var ran, refused int
	b.exchanges(fake, link, fake, func(out string, err error) bool {
		switch {
		case strings.Contains(out, "fell"):
			t.Error("something else is bound upon /proc: ", out)
		case strings.Contains(out, "in the place of /proc"):
			refused++
		case err == nil || strings.Contains(err.Error(), "exit status 1") && out == "":
			ran++
		default:
			t.Errorf("%v: %s", err, out)
		}
		return true
	}, "run", "--bundle", b.dir, "c")
	if ran == 0 || refused == 0 {
		t.Errorf("%d ran, %d were refused", ran, refused)
	}
}

// Who shares the root can exchange the directories that /proc and /sys are mounted
// on. What is to be hidden there is hidden all the same.
func TestRuntimeRootExchanged(t *testing.T) {
	for _, at := range []struct{ dir, hidden string }{{"proc", "/sys proc ro"}, {"sys", "/firmware tmpfs ro"}} {
		b := newBundle(t, `m=; while [ -z "$m" ]; do m=$(cat /proc/mounts || cat /decoy/mounts); done 2>/dev/null
			case "$m" in *"`+at.hidden+`"*) echo hidden ;; *) echo "$m" ;; esac`)
		b.places()
		shown, decoy := filepath.Join(b.dir, "rootfs", at.dir), filepath.Join(b.dir, "rootfs/decoy")
		if err := errors.Join(os.MkdirAll(shown, 0o755), os.MkdirAll(decoy+"/sys", 0o755), os.Mkdir(decoy+"/firmware", 0o755)); err != nil {
			t.Fatal(err)
		}
		b.few()
		b.write()
		ran := 0
		b.exchanges(shown, decoy, at.dir, func(out string, err error) bool {
			if err == nil && out != "hidden\n" {
				t.Error("nothing is hidden: ", out)
			}
			if err == nil {
				ran++
			}
			return true
		}, "run", "--bundle", b.dir, "c")
		if ran == 0 {
			t.Error("none ran")
		}
	}
}
