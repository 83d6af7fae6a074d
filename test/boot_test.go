package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What starts containers after a boot without systemd calls cove by its path, in
// the poor environment that it has there, and with flags that cove knows. The
// functions of OpenRC's that it calls are stand-ins.
func TestBootScripts(t *testing.T) {
	dir := t.TempDir()
	stand := "#!/bin/sh\nfor a; do echo \"$a\"; done >> " + dir + "/called\n"
	if err := writeProgram(filepath.Join(dir, "cove"), stand); err != nil {
		t.Fatal(err)
	}
	run := func(shell string) string {
		t.Helper()
		_ = os.Remove(filepath.Join(dir, "called"))
		cmd := exec.Command("sh", "-c", shell)
		cmd.Env = []string{"PATH=/usr/bin:/bin"} // cron's
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", shell, err, out)
		}
		called, err := os.ReadFile(filepath.Join(dir, "called"))
		if err != nil {
			t.Fatalf("%s: cove was not called: %v", shell, err)
		}
		return strings.Join(strings.Fields(string(called)), " ")
	}
	text, err := os.ReadFile("../contrib/openrc/cove-restart")
	if err != nil {
		t.Fatal(err)
	}
	service := filepath.Join(dir, "service")
	if err := os.WriteFile(service, []byte(strings.ReplaceAll(string(text), "@BINDIR@", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	const start = "start --all --filter should-start-on-boot=true"
	functions := "ebegin() { :; }; eend() { return $1; }; . " + service + "; "
	if got := run(functions + "start"); got != start {
		t.Errorf("OpenRC's start calls %q", got)
	}
	if got := run(functions + "stop"); got != "stop --all --filter restart-policy=always" {
		t.Errorf("OpenRC's stop calls %q", got)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("`@reboot /usr/local/bin(/[^`]*)`").FindStringSubmatch(string(readme))
	if line == nil {
		t.Fatal("README has no line for cron")
	}
	if got := run(dir + line[1]); got != start {
		t.Errorf("cron's line calls %q", got)
	}
	for _, args := range []string{start, "stop --all --filter restart-policy=always"} {
		cmd := exec.Command("../bin/cove", append([]string{"--root", dir + "/root", "--runroot", dir + "/run"}, strings.Fields(args)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cove %s: %v: %s", args, err, out)
		}
	}
}
