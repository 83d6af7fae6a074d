package engine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/engine"
)

// TestDescriptors: what a program does again and again with an engine, and with
// engines that it opens and closes, costs it no descriptor.
func TestDescriptors(t *testing.T) {
	for _, monitor := range []string{"native", "conmon"} {
		t.Run(monitor, func(t *testing.T) {
			if monitor == "conmon" {
				needConmon(t)
			}
			e := open(t, engine.Options{Monitor: monitor})
			costsNothing(t, func() {
				if _, err := output(t, e, cove.ContainerSpec{Command: []string{"true"}}); err != nil {
					t.Error(err)
				}
				if err := e.Reload(); err != nil {
					t.Error(err)
				}
				if _, err := e.Images(t.Context(), engine.ListImagesOptions{}); err != nil {
					t.Error(err)
				}
			})
		})
	}
	t.Run("closed", func(t *testing.T) {
		o := engine.Options{State: "memory"}
		roots(t, &o)
		costsNothing(t, func() {
			e, err := engine.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Images(t.Context(), engine.ListImagesOptions{}); err != nil {
				t.Error(err)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

// costsNothing does something again and again; only the first round may open what
// stays.
func costsNothing(t *testing.T, do func()) {
	t.Helper()
	var before []string
	for round := range 2 {
		for range 2 {
			do()
		}
		after := descriptors(t)
		for deadline := time.Now().Add(time.Minute); round > 0 && len(after) > len(before) && time.Now().Before(deadline); after = descriptors(t) {
			time.Sleep(10 * time.Millisecond) // conversations end behind their caller's back
		}
		if round > 0 && len(after) > len(before) {
			t.Fatalf("open before: %q\nafter: %q", before, after)
		}
		before = after
	}
}

// descriptors are this process's.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range entries {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", d.Name())); err == nil {
			open = append(open, to)
		}
	}
	return open
}

// needConmon skips a test where there is none, and puts the cove of this tree
// into PATH, which conmon runs.
func needConmon(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("conmon"); err != nil {
		t.Skip("needs conmon")
	}
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin + "/cove"); err != nil {
		t.Skip("needs bin/cove")
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}
