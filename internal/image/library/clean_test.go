package library

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What is no note, whatever its length, hides no note.
func TestNotesBesideRubbish(t *testing.T) {
	name := filepath.Join(t.TempDir(), "copies")
	text := slices.Concat([]byte("one\n"), bytes.Repeat([]byte("rubbish\x00"), 20000), []byte("\ntwo 7\nimage three\ntorn"))
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notes, err := (&copies{f}).left()
	if want := []note{{id: "one"}, {id: "two", made: 7}, {id: "three", image: true}}; err != nil || !slices.Equal(notes, want) {
		t.Errorf("%v, %v, want %v", notes, err, want)
	}
}
