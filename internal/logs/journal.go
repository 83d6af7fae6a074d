package logs

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/journal/journalctl"
)

// Journald is the driver to systemd's journal; its Path is the container's ID.
const Journald = "journald"

// Fields of a log's entries, conmon's.
const (
	fieldID      = "CONTAINER_ID_FULL"
	fieldPartial = "CONTAINER_PARTIAL_MESSAGE"
)

// readJournal reads records from the journal.
func readJournal(ctx context.Context, o Options, each func(record) error) error {
	q := journalctl.Query{
		Fields: []string{"MESSAGE", "PRIORITY", fieldPartial, "_SOURCE_REALTIME_TIMESTAMP"},
		Match:  o.Match,
		User:   o.User,
	}
	if q.Match == nil {
		q.Match = []string{fieldID + "=" + o.Path}
	}
	if o.Tail < 0 && !o.Since.IsZero() {
		q.Since = o.Since
	}
	following := ctx
	if !o.Until.IsZero() {
		var cancel context.CancelFunc
		following, cancel = context.WithDeadline(ctx, o.Until)
		defer cancel()
	}
	// Both are asked before the reading that is to be the last.
	done := !o.Follow || following.Err() != nil || o.Done != nil && o.Done()
	journalctl.Sync(ctx)
	if o.Tail >= 0 {
		if err := seekTail(ctx, &q, o.Tail); err != nil {
			return err
		}
	}
	err := journalctl.Read(ctx, q, journalRecords(&q, each))
	if err == nil && !done {
		if err = followJournal(following, &q, o.Done, each); err == nil {
			journalctl.Sync(ctx)
			err = journalctl.Read(ctx, q, journalRecords(&q, each))
		}
	}
	if err == nil && o.Follow {
		err = ctx.Err()
	}
	return err
}

// errFound ends a reading.
var errFound = errors.New("found")

// seekTail lets q begin behind the entry that is before the last lines.
func seekTail(ctx context.Context, q *journalctl.Query, lines int) error {
	back, tail := *q, lastLines{left: lines}
	back.Reverse = true
	err := journalctl.Read(ctx, back, func(e journalctl.Entry) error {
		if r, ok := fromJournal(e); ok && tail.before(r) {
			q.After = string(e["__CURSOR"])
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// lastLines counts lines from the last record on. A container decides how many
// records a line has, so none is kept.
type lastLines struct {
	left  int
	begun bool
}

// before tells whether a record is older than the lines that are wanted. The
// newest ends a line whatever it says.
func (l *lastLines) before(r record) bool {
	if !r.more || !l.begun {
		l.left--
	}
	l.begun = true
	return l.left < 0
}

// journalRecords passes an entry on as a record, and notes how far q has come.
func journalRecords(q *journalctl.Query, each func(record) error) func(journalctl.Entry) error {
	return func(e journalctl.Entry) error {
		q.After = string(e["__CURSOR"])
		if r, ok := fromJournal(e); ok {
			return each(r)
		}
		return nil
	}
}

// followJournal passes on what comes until the writer has ended.
func followJournal(ctx context.Context, q *journalctl.Query, done func() bool, each func(record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for done == nil || !done() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(poll):
			}
		}
		cancel()
	}()
	follow := *q
	follow.Follow = true
	err := journalctl.Read(ctx, follow, journalRecords(q, each))
	cancel()
	<-ended
	return err
}

// fromJournal reads an entry.
func fromJournal(e journalctl.Entry) (r record, ok bool) {
	stamp := e["_SOURCE_REALTIME_TIMESTAMP"]
	if stamp == nil {
		stamp = e["__REALTIME_TIMESTAMP"]
	}
	micro, err := strconv.ParseInt(string(stamp), 10, 64)
	if err != nil {
		return r, false
	}
	// conmon up to 2.1.6 at least leaves a line's end in the message.
	r = record{at: time.UnixMicro(micro), text: bytes.TrimSuffix(e["MESSAGE"], []byte("\n")), more: string(e[fieldPartial]) == "true"}
	switch string(e["PRIORITY"]) {
	case journal.Info:
		r.stream = "stdout"
	case journal.Error:
		r.stream = "stderr"
	default: // not a monitor's
		r.stream = "stdout"
	}
	return r, true
}
