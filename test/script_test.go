package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// TestScript runs every script of testdata/script on the engine under test.
func TestScript(t *testing.T) {
	runScripts(t, underTest(t), nil)
}

// TestScriptUser runs them as an ordinary user.
func TestScriptUser(t *testing.T) {
	e := underTest(t)
	if e.name == "docker" {
		t.Skip("docker's daemon is root's")
	}
	for _, program := range []string{"newuidmap", "pasta", "slirp4netns", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs what ordinary users need (test/deps): ", err)
		}
	}
	e.user = &account{uid: ordinary.ID, gid: ordinary.ID}
	runScripts(t, e, nil)
}

// TestScriptRuntime runs scripts on podman and docker over cove-runtime. All of
// them run so with COVE_UNDER_TEST and COVE_TEST_RUNTIME.
func TestScriptRuntime(t *testing.T) {
	runtime, err := filepath.Abs("../bin/cove-runtime")
	if err == nil {
		_, err = os.Stat(runtime)
	}
	if err != nil {
		t.Skip("needs cove-runtime (make build): ", err)
	}
	for _, name := range []string{"podman", "docker", "podman of an ordinary user"} {
		t.Run(name, func(t *testing.T) {
			name, _, user := strings.Cut(name, " ")
			t.Setenv("COVE_UNDER_TEST", name)
			t.Setenv("COVE_TEST_RUNTIME", runtime)
			var files []string
			for _, s := range []string{"run_exit", "run_env", "exec", "tty"} {
				files = append(files, "testdata/script/"+s+".txt")
			}
			e := underTest(t)
			if user {
				e.user = &account{uid: ordinary.ID, gid: ordinary.ID}
			}
			runScripts(t, e, nil, files...)
		})
	}
}

// runScripts runs the scripts of testdata/script or, if there are any, files.
// with is called with the directory that the scripts have as $IMAGES.
func runScripts(t *testing.T, e engine, with func(images string), files ...string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, mounts and cgroups")
	}
	// Short: podman refuses a run root of more than 50 characters.
	dir, err := os.MkdirTemp("/tmp", "ct")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Getenv("COVE_TEST_KEEP") != "" {
			t.Log("kept: ", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if e.user != nil {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	images := makeImages(t, filepath.Join(dir, "images"))
	if with != nil {
		with(images)
	}
	if len(files) == 0 {
		if files, err = filepath.Glob("testdata/script/*.txt"); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		if err := swallowed(file); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Files:              files,
		RequireUniqueNames: true,
		WorkdirRoot:        dir,
		Setup:              func(env *testscript.Env) error { return setup(env, e, images) },
		Condition:          e.condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ctr":      cmdCtr,
			"code":     cmdCode,
			"sh":       cmdShell,
			"asroot":   cmdAsRoot,
			"outside":  cmdOutside,
			"until":    cmdUntil,
			"set":      cmdSet,
			"term":     cmdTerm,
			"registry": cmdRegistry,
			"lose":     cmdLose,
			"answers":  cmdAnswers,
			"journal":  cmdJournal,
		},
	})
}

// ofScripts are lines that only a script has: its commands, without those that
// a shell or a program's configuration has too, and conditions.
var ofScripts = regexp.MustCompile(`^(\[!?\w+\] +\S|([!?]\s*)?(ctr|code|stdout|stderr|cmp|cmpenv|asroot|outside|registry|lose|answers|journal)\s)`)

// swallowed tells of the first line of a script that never runs, because it
// stands in one of the files that follow the script (txtar). Files that begin
// with "#!" may hold anything.
func swallowed(script string) error {
	archive, err := txtar.ParseFile(script)
	if err != nil {
		return err
	}
	for _, file := range archive.Files {
		if bytes.HasPrefix(file.Data, []byte("#!")) {
			continue
		}
		for line := range strings.Lines(string(file.Data)) {
			if ofScripts.MatchString(line) {
				return fmt.Errorf("%s: %q is a line of the file %s and never runs: it belongs before the first file", script, strings.TrimSpace(line), file.Name)
			}
		}
	}
	return nil
}

func TestSwallowed(t *testing.T) {
	for text, lost := range map[string]bool{
		"ctr ps\n-- run --\n#!/bin/sh\nctr ps\n":          false,
		"ctr ps\n-- conf --\n[engine]\nset -e\n":          false,
		"ctr ps\n-- conf --\nx\n\nctr run bb true\n":      true,
		"ctr ps\n-- conf --\nx\n! ctr run bb false\n":     true,
		"ctr ps\n-- conf --\nx\nstdout '^x$'\n":           true,
		"ctr ps\n-- conf --\nx\n[!rootless] sh 'a'\n":     true,
		"ctr ps\n-- conf --\nx\n-- more --\ncode 1 ctr\n": true,
	} {
		file := filepath.Join(t.TempDir(), "s.txt")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := swallowed(file); (err != nil) != lost {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// condition answers [cove], [podman], [podman4], [docker], [docker20],
// [native] (cove's own OCI runtime and monitor), [conmon] (cove with conmon), [rootless], [cgroup1], [cgroup2], [systemd], [cpuset], [nat], [criu], [criu_tcp],
// [criu_pages], [selinux], [enforcing], [apparmor], and [privileged]: whether
// the engine can run privileged containers here.
func (e engine) condition(name string) (bool, error) {
	switch name {
	case "cove", "podman", "docker":
		return e.name == name, nil
	case "podman4", "docker20":
		return e.name+e.major == name, nil
	case "privileged":
		// docker asks the kernel for every capability that the kernel knows,
		// the others for those that they may have.
		have, err := boundingSet()
		return e.name != "docker" || have == allCapabilities, err
	case "rootless":
		return e.user != nil, nil
	case "native":
		return e.name == "cove" && os.Getenv("COVE_TEST_RUNTIME") == "" && os.Getenv("COVE_TEST_MONITOR") == "", nil
	case "ownruntime":
		return e.name == "cove" && os.Getenv("COVE_TEST_RUNTIME") == "", nil
	case "conmon":
		return e.name == "cove" && os.Getenv("COVE_TEST_MONITOR") == "conmon", nil
	case "cgroup1":
		_, err := os.Stat("/sys/fs/cgroup/memory")
		return err == nil, nil
	case "cgroup2":
		return unified(), nil
	case "systemd":
		_, err := os.Stat("/run/systemd/private")
		return unified() && err == nil, nil
	case "cpuset":
		has, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		return err != nil || slices.Contains(strings.Fields(string(has)), "cpuset"), nil
	case "nat":
		return nat(), nil
	case "btrfs":
		known, err := os.ReadFile("/proc/filesystems")
		return err == nil && slices.Contains(strings.Fields(string(known)), "btrfs"), nil
	case "fuse":
		fi, err := os.Stat("/dev/fuse")
		return err == nil && (e.user == nil || fi.Mode()&0o006 == 0o006), nil
	case "criu":
		_, err := criu()
		return err == nil, nil
	case "criu_tcp":
		return criuTCP()
	case "criu_pages": // that only those are dumped again which have changed
		dir, err := criu()
		return err == nil && exec.Command(filepath.Join(dir, "criu"), "check", "--feature", "mem_dirty_track").Run() == nil, nil
	case "selinux": // with a policy: until there is one, every process is the kernel's
		label, err := os.ReadFile("/proc/self/attr/current")
		_, there := os.Stat("/sys/fs/selinux/enforce")
		return err == nil && there == nil && strings.TrimRight(string(label), "\x00\n") != "kernel", nil
	case "enforcing":
		on, _ := os.ReadFile("/sys/fs/selinux/enforce")
		return string(on) == "1", nil
	case "apparmor": // a kernel may have the module and be told not to use it
		on, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		return strings.HasPrefix(string(on), "Y"), nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// criuTCP tells whether CRIU can take TCP sockets apart: CRIU 4.1 asks them for
// credentials, an option that since Linux 6.16 local sockets alone have.
func criuTCP() (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED)
	return err == nil, nil
}

// allCapabilities is a set with every capability up to the newest.
const allCapabilities = 1<<(unix.CAP_LAST_CAP+1) - 1

// boundingSet is what this process may pass on.
func boundingSet() (set uint64, err error) {
	for c := range unix.CAP_LAST_CAP + 1 {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return 0, err
		}
		set |= uint64(has) << c
	}
	return set, nil
}
