package library

import (
	"os"
	"path/filepath"
	"syscall"
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
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := os.Symlink("/no/such/policy", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if absent := filepath.Join(dir, "absent"); !none([]string{absent}) || none([]string{absent, link}) || none([]string{file}) || none([]string{file + "/policy.json"}) {
		t.Error("absent, a link to nowhere, a file, below a file: ", none([]string{absent}), none([]string{link}), none([]string{file}), none([]string{file + "/policy.json"}))
	}
}

// A FIFO in its place would be waited for by every command about images.
func TestFallbackDisplaced(t *testing.T) {
	own, elsewhere := filepath.Join(t.TempDir(), "policy.json"), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(elsewhere, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func() error{
		"fifo": func() error { return syscall.Mkfifo(own, 0o600) },
		"link": func() error { return os.Symlink(elsewhere, own) },
		"dir":  func() error { return os.Mkdir(own, 0o700) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if holds(own, "text") {
			t.Errorf("%s: taken for the file", what)
		}
		if err := writeFallback(own, "text"); err != nil || !holds(own, "text") {
			t.Errorf("%s: written: %v", what, err)
		}
		if err := os.Remove(own); err != nil {
			t.Fatal(err)
		}
	}
}
