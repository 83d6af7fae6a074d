package event

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/logfile"
)

// maxLine bounds one event's line in bytes; longer ones are skipped.
const maxLine = 1 << 20

// ReadOptions choose what Read gives.
type ReadOptions struct {
	Path   string
	Filter Filter
	// Since and Until bound the events' times, inclusive; zero is no
	// bound. With Follow, Until also ends the reading when it has come.
	Since, Until time.Time
	// Follow goes on with events as they are written, until ctx ends or
	// Until. Without Since it begins with what is written from now on.
	Follow bool
}

// Read calls each for the chosen events in the order they were written; it
// returns each's error, nil at the end and nil when ctx ended while following. A
// missing file holds no events. Lines that are not events are skipped. ready, if not nil, is called once Read has begun to follow:
// events written from then on are seen.
func Read(ctx context.Context, o ReadOptions, ready func(), each func(cove.Event) error) error {
	r := &reader{o: o, each: each, cursor: logfile.Cursor{Path: o.Path}}
	defer r.cursor.Close()
	if o.Follow {
		// The log may be yet to come.
		err := os.MkdirAll(filepath.Dir(o.Path), 0o700)
		if err == nil {
			r.watch, err = logfile.Watch(o.Path)
		}
		if err != nil {
			return cove.E("read events", o.Path, kind(err), err)
		}
		defer r.watch.Close()
	}
	err := r.run(ctx, ready)
	if errors.Is(err, errEnd) || o.Follow && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	var e *fs.PathError
	if errors.As(err, &e) {
		return cove.E("read events", o.Path, kind(err), err)
	}
	return err
}

// errEnd ends the reading in good order.
var errEnd = errors.New("end of events")

type reader struct {
	o     ReadOptions
	each  func(cove.Event) error
	watch *logfile.Watcher

	cursor logfile.Cursor
	rest   []byte // of a line that is not whole yet
	skip   bool   // rest was given up: the line is too long
}

func (r *reader) run(ctx context.Context, ready func()) error {
	fromEnd := r.o.Follow && r.o.Since.IsZero() && r.o.Until.IsZero()
	first := r.cursor.Oldest
	if fromEnd {
		first = r.cursor.Youngest
	}
	// No log is as good as an empty one.
	if there, err := first(); err != nil {
		return err
	} else if there && fromEnd {
		if _, err := r.cursor.File.Seek(0, io.SeekEnd); err != nil {
			return err
		}
	}
	following := ctx
	if !r.o.Until.IsZero() {
		var cancel context.CancelFunc
		following, cancel = context.WithDeadline(ctx, r.o.Until)
		defer cancel()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if following.Err() != nil { // Until has come, and what there is by now is still given
			r.o.Follow = false
		}
		if !r.o.Follow {
			following = ctx
		}
		// Whether the file has a successor must be known before its end
		// is seen: afterwards more may have been written in between.
		last, err := r.cursor.Last()
		if err != nil {
			return err
		}
		if err := r.drain(following); err != nil {
			if err == following.Err() {
				continue
			}
			return err
		}
		if !last {
			if moved, err := r.cursor.Younger(); err != nil {
				return err
			} else if moved {
				r.rest, r.skip = nil, false
			}
			continue
		}
		if !r.o.Follow {
			return nil
		}
		if ready != nil {
			ready()
			ready = nil
		}
		if err := r.watch.Wait(following, 0); err != nil && err != following.Err() {
			return err
		}
	}
}

// drain reads to the present end of the file.
func (r *reader) drain(ctx context.Context) error {
	if r.cursor.File == nil {
		return nil
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.cursor.File.Read(buf)
		if err := r.lines(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (r *reader) lines(b []byte) error {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if r.skip = r.skip || len(r.rest)+len(b) > maxLine; r.skip {
				r.rest = nil
			} else {
				r.rest = append(r.rest, b...)
			}
			return nil
		}
		one := b[:i]
		b = b[i+1:]
		if len(r.rest) > 0 {
			one = append(r.rest, one...)
		}
		skip := r.skip
		r.rest, r.skip = r.rest[:0], false
		if skip {
			continue
		}
		if e, ok := decode(one); ok {
			if err := r.give(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) give(e cove.Event) error {
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) ||
		!r.o.Until.IsZero() && e.Time.After(r.o.Until) || !r.o.Filter.Match(e) {
		return nil
	}
	return r.each(e)
}
