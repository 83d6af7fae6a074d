package library

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove/internal/image"
)

// TestFallback: a host without configuration files gets docker's behaviour, a
// host with them is left to the library.
func TestFallback(t *testing.T) {
	root := t.TempDir()
	s := Open(image.Options{GraphRoot: root, RunRoot: root})
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(root, "mine.conf"))
	if got := s.fallback("registries.conf", "CONTAINERS_REGISTRIES_CONF"); got != "" {
		t.Errorf("although the environment names a file: %s", got)
	}
	if _, err := os.Stat("/etc/containers/policy.json"); err == nil {
		if got := s.fallback("policy.json", ""); got != "" {
			t.Errorf("although the host has a policy: %s", got)
		}
		return
	}
	got := s.fallback("policy.json", "")
	if text, err := os.ReadFile(got); err != nil || string(text) != fallbacks["policy.json"] {
		t.Errorf("%s: %v %s", got, err, text)
	}
}

// A policy that cannot be read is not for cove to replace by one that accepts
// everything.
func TestNoFallback(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	if err := os.MkdirAll(filepath.Join(home, ".config/containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/no/such/policy", filepath.Join(home, ".config/containers/policy.json")); err != nil {
		t.Fatal(err)
	}
	if got := Open(image.Options{GraphRoot: root, RunRoot: root}).fallback("policy.json", ""); got != "" {
		t.Errorf("%s takes its place", got)
	}
}
