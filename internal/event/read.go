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
	r := &reader{o: o, each: each}
	defer r.close()
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
		if !o.Until.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, o.Until)
			defer cancel()
		}
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

	file *os.File
	rest []byte // of a line that is not whole yet
	skip bool   // rest was given up: the line is too long
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read
	}
}

func (r *reader) run(ctx context.Context, ready func()) error {
	fromEnd := r.o.Follow && r.o.Since.IsZero() && r.o.Until.IsZero()
	// A log without a predecessor, or none at all, is as good as an empty one.
	first := []string{r.o.Path + ".1", r.o.Path}
	if fromEnd {
		first = first[1:]
	}
	for _, path := range first {
		err := r.open(path)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if fromEnd && r.file != nil {
		if _, err := r.file.Seek(0, io.SeekEnd); err != nil {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Whether the file has a successor must be known before its end
		// is seen: afterwards more may have been written in between.
		next, err := r.next()
		if err != nil {
			return err
		}
		if err := r.drain(ctx); err != nil {
			return err
		}
		if next != "" {
			if err := r.open(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
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
		if err := r.watch.Wait(ctx, 0); err != nil {
			return err
		}
	}
}

// open goes on with another file, from its beginning.
func (r *reader) open(path string) error {
	f, err := logfile.Open(path)
	if err != nil {
		return err
	}
	r.close()
	r.file, r.rest, r.skip = f, nil, false
	return nil
}

// next names the file that follows the present one, "" when there is none:
// the predecessor if that is a later one than ours, else the log itself.
func (r *reader) next() (string, error) {
	at, err := os.Lstat(r.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if r.file == nil {
		return r.o.Path, nil
	}
	mine, err := r.file.Stat()
	if err != nil {
		return "", err
	}
	if os.SameFile(mine, at) {
		return "", nil
	}
	if old, err := os.Lstat(r.o.Path + ".1"); err == nil && !os.SameFile(mine, old) && !old.ModTime().Before(mine.ModTime()) {
		return r.o.Path + ".1", nil
	}
	return r.o.Path, nil
}

// drain reads to the present end of the file.
func (r *reader) drain(ctx context.Context) error {
	if r.file == nil {
		return nil
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.file.Read(buf)
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
