// Package changes compares the roots of containers and images, held by
// descriptors: what they hold is hostile, and nothing in them is followed.
package changes

import (
	"slices"
	"strings"
)

// Change is one difference between two roots.
type Change struct {
	Path string // absolute, inside the root
	Kind Kind
}

// Kind is how a path differs, by the letter that docker-diff(1) prints.
type Kind byte

// The kinds of changes.
const (
	Added   Kind = 'A'
	Changed Kind = 'C'
	Deleted Kind = 'D'
)

// String gives the letter.
func (k Kind) String() string { return string(rune(k)) }

type differ struct{ changes []Change }

func (d *differ) sorted() []Change {
	slices.SortFunc(d.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.changes
}

func (d *differ) add(name string, k Kind) { d.changes = append(d.changes, Change{name, k}) }
