package state

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// SchemaKey is the key in [TableMeta] that says how the store stands: the
// layout's version, in decimal, when it is in use, else one of the marks below
// followed by the other back end's name.
const SchemaKey = "schema"

const (
	// MarkMoved is on a store whose rows another back end has now.
	MarkMoved = "moved to "
	// MarkComing is on one that is to replace another and is not in use yet.
	MarkComing = "coming from "
)

// Layout is a version of the meaning of the rows.
type Layout struct {
	Version int
	// Lifts lead from the version that each is listed under to the next.
	Lifts map[int]func(Rows) error
}

// Present is this release's layout.
func Present() Layout { return Layout{Version: Schema} }

// Begin makes empty tables a store in use.
func (l Layout) Begin(rows Rows) error {
	return rows.Put(TableMeta, SchemaKey, strconv.AppendInt(nil, int64(l.Version), 10))
}

// Check reads how the store stands. It is old when it must be lifted first;
// Unsupported when a newer cove wrote it, Unavailable when it is not the one
// in use.
func (l Layout) Check(rows Rows) (old bool, err error) {
	version, err := l.version(rows)
	return version < l.Version, err
}

func (l Layout) version(rows Rows) (int, error) {
	raw, err := rows.Get(TableMeta, SchemaKey)
	if err != nil {
		return 0, err
	}
	mark := string(raw)
	if to, ok := strings.CutPrefix(mark, MarkMoved); ok {
		return 0, Moved(to)
	}
	if from, ok := strings.CutPrefix(mark, MarkComing); ok {
		return 0, cove.E("read state", "", cove.Unavailable, fmt.Errorf(
			"it is a copy that another command is making of the records in %s: run the command again; if nobody is, put that store back", from))
	}
	version, err := strconv.Atoi(mark)
	if err != nil || version < 1 {
		return 0, cove.E("read state", "", cove.Internal, fmt.Errorf("schema number %q is not a number", clip(mark)))
	}
	if version > l.Version {
		return 0, cove.E("read state", "", cove.Unsupported,
			fmt.Errorf("written by a newer cove (schema %d, this one knows %d): use the newer cove, the file is left as it is", version, l.Version))
	}
	return version, nil
}

// Moved is the answer of a store whose records another back end has now.
func Moved(to string) error {
	return cove.E("read state", "", cove.Unavailable, fmt.Errorf("another command has just moved the records to %s: run the command again", to))
}

// Lift brings an older store to the layout, in the transaction of rows.
func (l Layout) Lift(rows Rows) error {
	version, err := l.version(rows)
	if err != nil || version == l.Version {
		return err
	}
	for ; version < l.Version; version++ {
		if lift := l.Lifts[version]; lift != nil {
			if err := lift(rows); err != nil {
				return cove.E("migrate state", "", cove.KindOf(err), fmt.Errorf("from schema %d: %w", version, err))
			}
		}
	}
	return l.Begin(rows)
}
