package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// wider is what cove's container has and that of the reference engine's release
// in Debian 12 has not, with the reason.
var wider = map[string]map[string]string{
	"podman": {
		"see /sys/dev/block":    "masked by podman 4, no longer by podman 5",
		"syscall fchmodat2":     "newer than podman 4",
		"syscall futex_requeue": "newer than podman 4",
		"syscall futex_wait":    "newer than podman 4",
		"syscall futex_waitv":   "newer than podman 4",
		"syscall futex_wake":    "newer than podman 4",
	},
	"docker": {
		"mount rw /run/.containerenv":   "podman's mark of a container: an empty file",
		"mount suid /run/.containerenv": "the same",
		"mount dev /run/.containerenv":  "the same",
		"mount exec /run/.containerenv": "the same",
	},
}

// newer are the system calls that docker 20.10's profile does not have and later
// ones do: the default's test (internal/seccomp) holds it against those.
var newer = strings.Fields(`fchmodat2 futex_requeue futex_wait futex_wake name_to_handle_at
	pkey_alloc pkey_free pkey_mprotect process_vm_readv process_vm_writev`)

// excuse tells whether there is a reason for a line that is only cove's.
func excuse(engine, line string) bool {
	call, isCall := strings.CutPrefix(line, "syscall ")
	return wider[engine][line] != "" || engine == "docker" && isCall && slices.Contains(newer, call)
}

// TestExposure compares what a container without options can see and do: cove's
// is never wider than podman's or docker's but for what is named above.
// What of it the kernel has no say in is as docs/exposure.txt has it. COVE_TEST_TABLE
// is a file for the table of all three, that one for instance.
func TestExposure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, mounts and cgroups")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "exposure")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./exposure")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string][]string{}
	for _, name := range []string{"cove", "podman", "docker"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COVE_UNDER_TEST", name)
			var images string
			runScripts(t, underTest(t), func(dir string) {
				images = dir
				if err := copyProgram(program, filepath.Join(images, "exposure")); err != nil {
					t.Fatal(err)
				}
			}, "testdata/exposure/default.txt")
			t.Cleanup(func() {
				text, err := os.ReadFile(filepath.Join(images, name))
				if err == nil && os.WriteFile(filepath.Join(dir, name), text, 0o644) == nil {
					found[name] = strings.Split(strings.TrimSpace(string(text)), "\n")
				}
			})
		})
	}
	if t.Failed() || found["cove"] == nil {
		t.Skip("nothing to compare")
	}
	if len(found["cove"]) < 300 {
		t.Errorf("only %d lines about cove's container", len(found["cove"]))
	}
	var files []string
	for _, name := range []string{"cove", "podman", "docker"} {
		if found[name] == nil {
			continue
		}
		files = append(files, filepath.Join(dir, name))
		for _, line := range found["cove"] {
			if !slices.Contains(found[name], line) && !excuse(name, line) {
				t.Errorf("not in %s's container: %s", name, line)
			}
		}
	}
	file := os.Getenv("COVE_TEST_TABLE")
	if file == "" {
		documented(t, found["cove"])
	} else {
		if len(files) < 3 {
			t.Fatal("a table needs podman and docker")
		}
		text, err := exec.Command(program, append([]string{"table"}, files...)...).Output()
		if err == nil {
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// documented compares what is found in cove's container with the table in docs: its
// capabilities, devices and the system calls that are allowed, which are the same
// whatever the kernel has.
func documented(t *testing.T, found []string) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		return // another one's system calls
	}
	text, err := os.ReadFile("../docs/exposure.txt")
	if err != nil {
		t.Fatal(err)
	}
	fixed := func(line string) bool {
		kind, _, _ := strings.Cut(line, " ")
		return strings.HasPrefix(kind, "Cap") || kind == "syscall" || kind == "device"
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		columns := strings.Fields(line)
		if n := len(columns) - 3; n > 0 && columns[n] == "x" && fixed(line) { // cove's is the first
			told[strings.Join(columns[:n], " ")] = true
		}
	}
	if len(told) < 300 {
		t.Errorf("docs/exposure.txt tells only %d things", len(told))
	}
	for _, line := range found {
		if fixed(line) && !told[line] {
			t.Errorf("not in docs/exposure.txt, which make exposure writes: %s", line)
		}
		delete(told, line)
	}
	for line := range told {
		t.Errorf("in docs/exposure.txt alone, which make exposure writes: %s", line)
	}
}
