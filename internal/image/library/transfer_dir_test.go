package library

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTransferDir(t *testing.T) {
	parent, root := t.TempDir(), t.TempDir()
	open := func() string {
		dir, err := transferDir(root, parent)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir := open() // locked from here on
	left := filepath.Join(dir, "left")
	if err := os.MkdirAll(filepath.Join(left, "blob"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); open() != dir || err != nil {
		t.Error("a living process's transfer was removed: ", err)
	}
	// Nobody has a lock on this one: what is in it is of the dead.
	if err := os.Rename(dir, filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if open() != dir {
		t.Fatal("another directory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left of the dead: %v %v", entries, err)
	}
}

// A directory that another user has put there is not used.
func TestTransferDirOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs another user")
	}
	parent, root := t.TempDir(), t.TempDir()
	dir, err := transferDir(root, parent)
	if err == nil {
		err = os.Chown(dir, 1, 1)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	own, err := transferDir(root, parent)
	if err != nil || own != filepath.Join(root, "cove", "transfer") {
		t.Errorf("%s %v", own, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "theirs")); err != nil {
		t.Error(err)
	}
}
