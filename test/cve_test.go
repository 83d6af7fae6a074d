package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Past holes of runc, tried as an attacker would: who has the image, a volume,
// or another container beside. cove's own containers are made by the same init.
// That the attacks are ones is shown beside runc itself: make holes.

// holes are those that the runtime under test (COVE_RUNTIME_BINARY) is known to
// have, as the tests are named: there the attack has to work.
var holes = strings.Fields(os.Getenv("COVE_TEST_HOLES"))

// attack is the attack of one test.
type attack struct {
	*testing.T
	wanted, worked bool
}

func newAttack(t *testing.T) *attack {
	a := &attack{T: t, wanted: slices.Contains(holes, strings.TrimPrefix(t.Name(), "TestCVE"))}
	t.Cleanup(func() {
		if a.wanted && !a.worked && !t.Failed() && !t.Skipped() {
			t.Error("the attack does not work where the hole is known to be: it shows nothing")
		}
	})
	return a
}

// fell tells that the attack has worked.
func (a *attack) fell(format string, args ...any) {
	a.Helper()
	if a.worked = true; a.wanted {
		a.Logf(format, args...)
		return
	}
	a.Errorf(format, args...)
}

// unexpected tells of an answer that is not cove-runtime's: another may have
// other words, or be lost by now.
func (a *attack) unexpected(format string, args ...any) {
	a.Helper()
	if os.Getenv("COVE_RUNTIME_BINARY") == "" {
		a.Errorf(format, args...)
		return
	}
	a.Logf(format, args...)
}

func sum(t *testing.T, file string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// CVE-2019-5736: a container keeps the runtime's program, which is executed in
// it, open by /proc/PID/exe, and writes to it once it is not executed any more.
func TestCVE2019_5736(t *testing.T) {
	a := newAttack(t)
	// By command, or an exec that finds the process gone would end the shell.
	b := newBundle(t, `while :; do
		busybox-victim sleep 0.02 &
		for p in /proc/[0-9]*; do
			case $(readlink $p/exe) in ''|*busybox) continue;; esac
			command exec 5<$p/exe || continue
			case $(readlink /proc/self/fd/5) in *-victim*) ;; *) echo seen: runtime;; esac
			for n in 1 2 3 4 5; do
				( : >> /proc/self/fd/5 ) 2>/dev/null && echo "written: $(readlink /proc/self/fd/5)"
				( echo '#!/bin/sh' > /proc/self/fd/5 ) 2>/dev/null && echo "written: $(readlink /proc/self/fd/5)"
				sleep 0.01
			done
			exec 5<&-
		done
	done 2>/dev/null`)
	// What anybody's program would suffer.
	victim := filepath.Join(b.dir, "rootfs/bin/busybox-victim")
	if err := copyProgram("/bin/busybox", victim); err != nil {
		t.Fatal(err)
	}
	before, victimBefore := sum(t, b.bin), sum(t, victim)
	output := b.start()
	// The interpreter of a script may be the runtime itself, which so stays.
	script := filepath.Join(b.dir, "rootfs/bin/loop")
	if err := os.WriteFile(script, []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Until the container has been seen to have it open, and to have done so to
	// the other.
	for i, begun := 0, time.Now(); i < 30 || !strings.Contains(output(), "seen: runtime") || sum(t, victim) == victimBefore; i++ {
		if time.Since(begun) > 2*time.Minute || i > 60 && os.Getenv("COVE_RUNTIME_BINARY") != "" {
			a.unexpected("the container has never had the runtime's program open, or never changed any: nothing was tried: %s", output())
			break
		}
		command := []string{"exec", "c", "true"}
		if i%3 == 0 {
			command[2] = "loop"
		}
		_, _ = b.try(command...)
	}
	// And init of another container in the same process namespace.
	o := newBundle(t, "true")
	o.setNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", b.state().PID))
	for range 10 {
		o.run()
	}
	for line := range strings.Lines(output()) {
		if strings.HasPrefix(line, "written") && !strings.Contains(line, "-victim") {
			a.fell("the container could write: %s", line)
		}
	}
	if sum(t, b.bin) != before {
		a.fell("the runtime's program has changed")
	}
}

// CVE-2019-16884: what is mounted over /proc or inside it leads the runtime's own
// writes (labels, sysctls) astray.
func TestCVE2019_16884(t *testing.T) {
	a := newAttack(t)
	for _, at := range []string{"/proc", "/proc/self/attr", "/proc/thread-self/attr/exec", "/proc/sys", "/proc/sys/net", "/proc/sysrq-trigger", "/link/sys", "/proc/self/fd"} {
		for _, m := range []specs.Mount{{Type: "bind", Options: []string{"bind"}}, {Type: "tmpfs", Source: "tmpfs"}} {
			b := newBundle(t, "cat /proc/1/comm")
			if m.Type == "bind" {
				m.Source = filepath.Join(b.dir, "fake")
				if err := os.Mkdir(m.Source, 0o755); err != nil {
					t.Fatal(err)
				}
				if filepath.Base(at) == "exec" || filepath.Base(at) == "sysrq-trigger" {
					m.Source = filepath.Join(m.Source, "file")
					if err := os.WriteFile(m.Source, nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			m.Destination = at
			if err := os.Symlink("/proc", filepath.Join(b.dir, "rootfs/link")); err != nil {
				t.Fatal(err)
			}
			b.Mounts = append(b.Mounts, m)
			b.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 0"}
			b.write()
			if out, err := b.try("create", "--bundle", b.dir, "c"); err == nil {
				a.fell("%s on %s was mounted", m.Type, at)
			} else if !strings.Contains(out, at) {
				a.unexpected("%s on %s: %s", m.Type, at, out)
			}
			_, _ = b.try("delete", "--force", "c")
		}
	}
}

// CVE-2021-30465, CVE-2024-45310: a directory on the way to a mount's place is
// exchanged for a link out of the container while the runtime makes and mounts
// it. The place is in a volume that another container has.
func TestCVE2021_30465(t *testing.T) {
	a := newAttack(t)
	b := newBundle(t, "grep -c outside /proc/self/mountinfo; ls /vol/a")
	volume, outside := filepath.Join(b.dir, "vol"), filepath.Join(b.dir, "outside")
	for _, d := range []string{filepath.Join(volume, "a"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(volume, "b")); err != nil {
		t.Fatal(err)
	}
	b.few()
	b.Mounts = append(b.Mounts,
		specs.Mount{Destination: "/vol", Source: volume, Type: "bind", Options: []string{"bind"}},
		specs.Mount{Destination: "/vol/a/x/y", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/vol/a/file", Source: "/etc/hostname", Type: "bind", Options: []string{"bind"}},
	)
	b.write()
	// A refusal is fine. But both the directory and the link have to have been
	// met, or nothing was tried: the link leads to what is of its name inside.
	inside := filepath.Join(b.dir, "rootfs", outside)
	var directory, link int
	b.exchanges(filepath.Join(volume, "a"), filepath.Join(volume, "b"), "vol/a", func(out string, err error) bool {
		if err != nil && !strings.Contains(out, "/vol/a") {
			a.unexpected("refused for another reason: %s", out)
		}
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			a.fell("made outside of the container: %v", entries)
		}
		if m := mountsBelow(outside, ""); len(m) > 0 {
			a.fell("mounted outside of the container: %v", m)
		}
		for _, at := range []struct {
			dir string
			met *int
		}{{filepath.Join(volume, "a"), &directory}, {filepath.Join(volume, "b"), &directory}, {inside, &link}} {
			// One of the first two is the link just now, to what has to be empty.
			for _, name := range []string{"x", "file"} {
				if path := filepath.Join(at.dir, name); os.RemoveAll(path+"/y") == nil && os.Remove(path) == nil {
					*at.met++
				}
			}
		}
		return !a.worked
	}, "run", "--bundle", b.dir, "c")
	if !a.worked && (directory == 0 || link == 0) {
		a.unexpected("met the directory %d times, the link %d times", directory, link)
	}
}

// CVE-2025-52881: a container leads what the runtime writes for another one to
// /proc (labels, sysctls) astray, by links in a volume that both have: for a
// moment a mount's place there leads to the other one's /proc, or into it.
func TestCVE2025_52881(t *testing.T) {
	a := newAttack(t)
	b := newBundle(t, "grep -c ' /proc ' /proc/self/mountinfo; cat /proc/sys/net/ipv4/ping_group_range; stat -c %F /vol/place")
	volume, fake := filepath.Join(b.dir, "vol"), filepath.Join(b.dir, "fake")
	const name = "sys/net/ipv4/ping_group_range"
	for _, d := range []string{filepath.Join(volume, "place"), filepath.Join(fake, filepath.Dir(name)), filepath.Join(fake, "self")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(fake, name), []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	share := specs.Mount{Destination: "/vol", Source: volume, Type: "bind", Options: []string{"bind"}}

	b.few()
	b.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 0"}
	b.Mounts = append(b.Mounts, share, specs.Mount{})
	for _, attempt := range []struct{ link, below string }{{"/proc", ""}, {"../proc", ""}, {"/proc", "/sys"}, {"../proc", "/self"}} {
		place := filepath.Join(volume, "place", attempt.below)
		if err := os.MkdirAll(place, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(attempt.link, filepath.Join(volume, "link")); err != nil {
			t.Fatal(err)
		}
		b.Mounts[len(b.Mounts)-1] = specs.Mount{
			Destination: "/vol/place" + attempt.below, Source: filepath.Join(fake, attempt.below), Type: "bind", Options: []string{"bind"},
		}
		b.write()
		var ran, refused int
		b.exchanges(filepath.Join(volume, "place"), filepath.Join(volume, "link"), "vol/place", func(out string, err error) bool {
			switch {
			case err != nil && strings.Contains(out, "inside /proc"):
				refused++
			case err != nil:
				a.unexpected("refused for another reason: %s", out)
			case !strings.HasPrefix(out, "1\n0\t0\n"):
				a.fell("the container's /proc: %s", out)
			default:
				ran++
			}
			if text, err := os.ReadFile(filepath.Join(fake, name)); err != nil || string(text) != "untouched" {
				a.fell("the runtime has written %q (%v)", text, err)
			}
			return !a.worked
		}, "run", "--bundle", b.dir, "c")
		if a.worked {
			break
		}
		if ran == 0 || refused == 0 {
			a.unexpected("link to %s: %d ran, %d were refused", attempt.link, ran, refused)
		}
		for _, n := range []string{"link", "place"} {
			if err := os.RemoveAll(filepath.Join(volume, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// CVE-2023-27561, CVE-2023-28642: an image's /proc or /sys is a link, so that
// masks and labels end up elsewhere.
func TestCVE2023_27561(t *testing.T) {
	a := newAttack(t)
	for _, name := range []string{"proc", "sys"} {
		for _, to := range []string{"/tmp", "tmp", "../../../../tmp"} {
			b := newBundle(t, "ls /proc")
			if err := os.Symlink(to, filepath.Join(b.dir, "rootfs", name)); err != nil {
				t.Fatal(err)
			}
			b.write()
			if out, err := b.try("create", "--bundle", b.dir, "c"); err == nil {
				a.fell("/%s is at %s", name, to)
			} else if !strings.Contains(out, "the image has a link in its place") {
				a.unexpected("refused for another reason: %s", out)
			}
		}
	}
}

// CVE-2024-21626: a descriptor of the host's is left open in init, and the
// working directory is named by it.
func TestCVE2024_21626(t *testing.T) {
	a := newAttack(t)
	b := newBundle(t, "ls /proc/self/fd | wc -l; pwd; ls /")
	host, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for n := 3; n < 24; n++ {
		for _, cwd := range []string{fmt.Sprintf("/proc/self/fd/%d", n), fmt.Sprintf("/proc/self/fd/%d/../..", n), fmt.Sprintf("/proc/thread-self/fd/%d/etc", n)} {
			b.Process.Cwd = cwd
			b.write()
			cmd := b.command("run", "--bundle", b.dir, "c")
			cmd.ExtraFiles = []*os.File{host, host, host, host, host}
			if out, err := cmd.CombinedOutput(); err == nil {
				a.fell("working directory %s was entered: %s", cwd, out)
			}
		}
	}
	b.Process.Cwd = "/"
	b.write()
	cmd := b.command("run", "--bundle", b.dir, "c")
	cmd.ExtraFiles = []*os.File{host, host, host, host, host}
	out, err := cmd.Output()
	if f := strings.Fields(string(out)); err != nil || f[0] != "4" { // ls has the directory open, too
		a.fell("descriptors inside: %s (%v)", out, err)
	}
	// The same by exec, and by a link of the container's.
	b.Process.Args = []string{"sleep", "60"}
	b.start()
	for n := 3; n < 24; n++ {
		if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), filepath.Join(b.dir, "rootfs/tmp", fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		for _, cwd := range []string{fmt.Sprintf("/proc/self/fd/%d", n), fmt.Sprintf("/tmp/%d", n)} {
			cmd := b.command("exec", "--cwd", cwd, "c", "cat", "../../../../../etc/passwd")
			cmd.ExtraFiles = []*os.File{host, host, host}
			if out, err := cmd.CombinedOutput(); err == nil {
				a.fell("exec entered %s: %s", cwd, out)
			}
		}
	}
}

// CVE-2024-21626 once more: the command itself is named by a descriptor of the
// host's, or is a link of the image's to one. A program of the host's that runs
// in a container can be written to by /proc/PID/exe.
func TestCVE2024_21626_command(t *testing.T) {
	a := newAttack(t)
	b := newBundle(t, "")
	host, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	program := filepath.Join(b.dir, "busybox")
	if data, err := os.ReadFile(filepath.Join(b.dir, "rootfs/bin/busybox")); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for n := 3; n < 12; n++ {
		commands = append(commands, fmt.Sprintf("/proc/self/fd/%d/..%s", n, program), fmt.Sprintf("/proc/self/fd/%d/%d/root%s", n, os.Getpid(), program))
		link := fmt.Sprintf("/tmp/command-%d", n)
		if err := os.Symlink(commands[len(commands)-2], filepath.Join(b.dir, "rootfs", link)); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, link)
	}
	refused := func(args ...string) {
		t.Helper()
		cmd := b.command(args...)
		cmd.ExtraFiles = []*os.File{host, host, host}
		if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "applet") {
			a.fell("%v executed the host's program: %s", args, out)
		}
	}
	for _, c := range commands {
		b.Process.Args = []string{c}
		b.write()
		refused("run", "--bundle", b.dir, "c")
	}
	b.Process.Args = []string{"sleep", "60"}
	b.start()
	for _, c := range commands {
		refused("exec", "c", c)
	}
}

const corePattern = "/proc/sys/kernel/core_pattern"

// CVE-2025-31133: the image's /dev/null is a link, and what it leads to is
// mounted, writable, over each masked path.
func TestCVE2025_31133(t *testing.T) {
	a := newAttack(t)
	for _, bind := range []bool{false, true} {
		b := newBundle(t, "stat -c %t:%T /proc/keys; echo x > /proc/keys; ls -l /dev/null")
		dev := filepath.Join(b.dir, "rootfs/dev")
		var mounts []specs.Mount
		for _, m := range b.Mounts {
			if !strings.HasPrefix(m.Destination, "/dev") {
				mounts = append(mounts, m)
			}
		}
		if bind {
			dev = filepath.Join(b.dir, "dev")
			mounts = append(mounts, specs.Mount{Destination: "/dev", Source: dev, Type: "bind", Options: []string{"bind"}})
		}
		b.Mounts = mounts
		if err := os.MkdirAll(dev, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(corePattern, filepath.Join(dev, "null")); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(corePattern)
		if err != nil {
			t.Fatal(err)
		}
		b.write()
		out, err := b.try("run", "--bundle", b.dir, "c")
		if err == nil && !strings.HasPrefix(out, "1:3\n") {
			a.fell("the mask is not the null device: %s", out)
		}
		// The link is met, in the image, where /dev/null is to be made; a volume's
		// has only to be no mask.
		if err != nil && (bind || !strings.Contains(out, "/dev/null")) {
			a.unexpected("refused for another reason: %s", out)
		}
		after, _ := os.ReadFile(corePattern)
		if string(after) != string(before) {
			a.fell("%s has changed to %q", corePattern, after)
			_ = os.WriteFile(corePattern, before, 0)
		}
	}
}

// CVE-2025-52565: /dev/console is a link, and the terminal is mounted over what
// it leads to, before masks and read-only paths protect it.
func TestCVE2025_52565(t *testing.T) {
	a := newAttack(t)
	for _, to := range []string{corePattern, "/proc/sysrq-trigger", "/etc/target"} {
		b := newBundle(t, "true")
		dev := filepath.Join(b.dir, "dev")
		if err := os.MkdirAll(filepath.Join(dev, "pts"), 0o755); err != nil {
			t.Fatal(err)
		}
		// What a runtime may want of a /dev that it has not made.
		if err := unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		for _, l := range [][2]string{{"pts/ptmx", filepath.Join(dev, "ptmx")}, {to, filepath.Join(dev, "console")}, {"/plain", filepath.Join(b.dir, "rootfs/etc/target")}} {
			if err := os.Symlink(l[0], l[1]); err != nil {
				t.Fatal(err)
			}
		}
		var mounts []specs.Mount
		for _, m := range b.Mounts {
			switch m.Destination {
			case "/dev":
				m = specs.Mount{Destination: "/dev", Source: dev, Type: "bind", Options: []string{"bind"}}
			case "/dev/shm", "/dev/mqueue":
				continue
			}
			mounts = append(mounts, m)
		}
		b.Mounts = mounts
		b.Process.Terminal = true
		b.write()
		path := filepath.Join(b.dir, "console")
		listenFD(t, path)
		out, err := b.try("create", "--console-socket", path, "--bundle", b.dir, "c")
		if err == nil {
			mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", b.state().PID))
			a.fell("console %s: it was made: %s", to, mounts)
		} else if !strings.Contains(out, "/dev/console") {
			a.unexpected("console %s: %s", to, out)
		}
	}
}
