// Package logs reads what monitors write: log files in the formats k8s-file and
// docker's json-file, with their rotated predecessors PATH.1 (the youngest) to
// PATH.N, and entries in systemd's journal.
//
// What a container wrote is hostile: nothing here keeps more of a line in
// memory than [MaxLine], and a line that is not a record is passed over.
package logs

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/logfile"
)

// The drivers that can be read.
const (
	K8sFile  = "k8s-file"
	JSONFile = "json-file"
)

// MaxLine is the greatest length of a Line's text in bytes; longer lines come
// in several, all but the last marked Partial. A json-file record may not be
// longer as a whole.
const MaxLine = 1 << 20

// Line is one line that a container wrote.
type Line struct {
	Time   time.Time // when its first part was written
	Stream string    // stdout or stderr
	Text   []byte    // without the newline; valid during the call only
	// Partial says that no newline followed (yet).
	Partial bool
}

// Options choose what Read gives.
type Options struct {
	Path   string
	Driver string // K8sFile, JSONFile or Journald
	User   int    // who has written it, for Journald; negative for anybody
	// Match are fields, NAME=value, of the journal's entries to be read in place
	// of a monitor's: what a container has written to its journal by itself.
	Match []string
	// Tail is how many of the last lines to begin with; negative is all.
	// It counts before Since and Until choose.
	Tail int
	// Since and Until bound the lines' times, inclusive; zero is no bound.
	Since, Until time.Time
	// Without Follow what is written from the call on is left out.
	// Follow goes on with lines as they are written, until Done says that
	// the writer has ended and all it wrote was read, Until has come, or
	// ctx ends. A nil Done is never.
	Follow bool
	Done   func() bool
	// Idle, unless nil, is called whenever all lines so far have been given,
	// before more are waited for.
	Idle func() error
}

// Read calls each for the chosen lines in order and returns its error; nil
// when ctx ended while following. NoFile when there is no log and none is
// waited for, Unsupported for another driver.
func Read(ctx context.Context, o Options, each func(Line) error) error {
	var decode decoder
	switch o.Driver {
	case Journald:
	case K8sFile:
		decode = decodeK8s
	case JSONFile:
		decode = decodeJSON
	default:
		return cove.E("read logs", o.Path, cove.Unsupported, errors.New("log driver "+o.Driver+" keeps no log that can be read: want k8s-file, json-file or journald"))
	}
	j := joiner{each: func(l Line) error {
		if !o.Since.IsZero() && l.Time.Before(o.Since) || !o.Until.IsZero() && l.Time.After(o.Until) {
			return nil
		}
		return each(l)
	}}
	if o.Driver == Journald {
		add := j.add
		if o.Follow { // journalctl does not say when it waits
			add = func(r record) error {
				if err := j.add(r); err != nil {
					return err
				}
				return o.idle()
			}
		}
		err := readJournal(ctx, o, add)
		if o.Follow && ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
			err = nil
		}
		if err == nil {
			err = j.flush()
		}
		return err
	}
	r := &reader{o: o, cursor: logfile.Cursor{Path: o.Path}, buf: make([]byte, 64<<10), records: records{decode: decode, json: o.Driver == JSONFile, each: j.add}}
	defer r.cursor.Close()
	if o.Follow {
		w, err := logfile.Watch(o.Path)
		if err != nil {
			return fault(o.Path, err)
		}
		defer w.Close()
		r.watch = w
	}
	err := r.run(ctx)
	if o.Follow && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	if err == nil {
		err = j.flush()
	}
	return fault(o.Path, err)
}

// fault gives system errors their kind and leaves each's errors alone.
func fault(path string, err error) error {
	e, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err
	}
	kind := cove.Internal
	switch {
	case errors.Is(e, fs.ErrNotExist):
		kind = cove.NoFile
	case errors.Is(e, fs.ErrPermission):
		kind = cove.Denied
	}
	return cove.E("read logs", path, kind, err)
}
