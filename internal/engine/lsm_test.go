package engine

import (
	"os/exec"
	"strings"
	"testing"
)

// The profile is one that the parser takes; what it does, only a kernel with
// AppArmor can tell.
func TestProfileText(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("needs apparmor_parser (Debian: apparmor): ", err)
	}
	cmd := exec.Command(parser, "-QTK")
	cmd.Stdin = strings.NewReader(profileText(defaultProfile))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	cmd = exec.Command(parser, "-N")
	cmd.Stdin = strings.NewReader(profileText(defaultProfile))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != defaultProfile {
		t.Errorf("its name is %q, %v; want %s", out, err, defaultProfile)
	}
}

func TestProfileLoaded(t *testing.T) {
	const list = "docker-default (enforce)\n/usr/bin/man (enforce)\nmy profile (complain)\n"
	for name, want := range map[string]bool{"docker-default": true, "my profile": true, "docker": false, "/usr/bin/man": true, "": false} {
		if got := profileLoaded(list, name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
