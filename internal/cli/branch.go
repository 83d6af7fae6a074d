package cli

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// branch is a tree's directory that was asked for last, with those above it, all open:
// [os.Root] goes to each name step by step from its own directory, so that the deepest
// entries of a tree would each cost as many steps as there are levels.
type branch struct {
	root  *os.Root // the tree's, the caller's to close
	names []string
	dirs  []*os.Root // by names; nil of those that are too far above
}

// branchOpen is how many directories of a branch stay open.
const branchOpen = 256

// at gives the directory called name, by its path in the tree. It stays the branch's, until
// the next call.
func (b *branch) at(name string) (*os.Root, error) {
	var parts []string
	if name != "." {
		parts = strings.Split(name, "/")
	}
	common := 0
	for common < min(len(parts), len(b.names)) && parts[common] == b.names[common] {
		common++
	}
	b.cut(common)
	dir := b.root
	if common > 0 {
		if dir = b.dirs[common-1]; dir == nil {
			b.cut(0)
			common, dir = 0, b.root
		}
	}
	for i, part := range parts[common:] {
		next, err := dir.OpenRoot(part)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a link may lead out of there and not out of the tree
			next, err = b.root.OpenRoot(path.Join(parts[:common+i+1]...))
		}
		if err != nil {
			return nil, err
		}
		b.names, b.dirs, dir = append(b.names, part), append(b.dirs, next), next
		if far := len(b.dirs) - branchOpen - 1; far >= 0 && b.dirs[far] != nil {
			_ = b.dirs[far].Close()
			b.dirs[far] = nil
		}
	}
	return dir, nil
}

// cut forgets the directories below the first n.
func (b *branch) cut(n int) {
	for _, d := range b.dirs[n:] {
		if d != nil {
			_ = d.Close()
		}
	}
	b.names, b.dirs = b.names[:n], b.dirs[:n]
}

// Open opens a file of the tree for reading. With Stat and ReadDir it makes the tree one
// for [fs.WalkDir].
func (b *branch) Open(name string) (fs.File, error) {
	dir, err := b.at(path.Dir(name))
	if err != nil {
		return nil, err
	}
	return dir.Open(path.Base(name))
}

// Stat tells what a name in the tree is, not following it if it is a link.
func (b *branch) Stat(name string) (fs.FileInfo, error) {
	dir, err := b.at(path.Dir(name))
	if err != nil {
		return nil, err
	}
	return dir.Lstat(path.Base(name))
}

// ReadDir lists a directory in the order of its names.
func (b *branch) ReadDir(name string) ([]fs.DirEntry, error) {
	dir, err := b.at(name)
	if err != nil {
		return nil, err
	}
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	slices.SortFunc(list, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return list, err
}
