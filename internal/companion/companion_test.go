package companion

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"
)

// A release's program takes the place of those that nobody has used for long.
func TestSweep(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte("#!"))
	_ = z.Close()
	sum := sha256.Sum256([]byte("#!"))
	c := Carried{Name: "prog", Files: fstest.MapFS{
		"files/prog.gz": {Data: packed.Bytes()}, "files/prog.sum": {Data: []byte(hex.EncodeToString(sum[:]))}}}
	dir := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	for _, name := range []string{"prog-old", "prog-old.new-ABC", "other-old", "prog-young"} {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		if name != "prog-young" {
			if err := os.Chtimes(at, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	path, err := c.Path([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"other-old", filepath.Base(path), "prog-young"}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
}
