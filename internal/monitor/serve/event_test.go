package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What only monitors write to keeps its size, and every line is whole.
func TestEventLogIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.log")
	line := strings.Repeat("x", 99) + "\n"
	const most = 4000
	for range 200 {
		appendEvent(path, []byte(line), most)
	}
	size := 0
	for _, name := range []string{path, path + ".1"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ReplaceAll(string(text), line, "") != "" {
			t.Errorf("%s has half a line", name)
		}
		size += len(text)
	}
	if size > most || size < most/2 {
		t.Errorf("%d bytes of at most %d", size, most)
	}
	appendEvent(path, []byte(line), 0) // no limit
	_ = os.Remove(path + ".1")
	for range 200 {
		appendEvent(path, []byte(line), 0)
	}
	if _, err := os.Lstat(path + ".1"); err == nil {
		t.Error("without a limit it was put aside")
	}
}
