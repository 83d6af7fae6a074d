package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove/internal/engine"
)

type logsOptions struct {
	*app
	selection
	follow, names, color, timestamps bool
	tail                             int
	since, until                     string
}

func logsCommand(a *app) *cobra.Command {
	o := &logsOptions{app: a}
	c := &cobra.Command{
		Use: "logs [options] CONTAINER [CONTAINER...]",
		Long: `Retrieves logs for one or more containers.

  This does not guarantee execution order when combined with cove run (i.e., your run may not have generated any logs at the time you execute cove logs).

Exit codes:
  125  a container is missing or its log cannot be read`,
		Example: `  cove logs ctrID
  cove logs --names ctrID1 ctrID2
  cove logs --color --names ctrID1 ctrID2
  cove logs --tail 2 mywebserver
  cove logs --follow=true --since 10m ctrID`,
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *logsOptions) flags(fs *pflag.FlagSet) {
	o.selection.flags(fs, "l", "")
	fs.BoolVar(&o.color, "color", false, "Output the containers with different colors in the log.")
	fs.BoolVarP(&o.follow, "follow", "f", false, "Follow log output.")
	fs.BoolVarP(&o.names, "names", "n", false, "Output the container name in the log")
	fs.StringVar(&o.since, "since", "", "Show logs since TIMESTAMP")
	fs.IntVar(&o.tail, "tail", -1, "Output the specified number of LINES at the end of the logs.  Defaults to -1, which prints all lines")
	fs.BoolVarP(&o.timestamps, "timestamps", "t", false, "Output the timestamps in the log")
	fs.StringVar(&o.until, "until", "", "Show logs until TIMESTAMP")
	fs.Bool("details", false, "Show extra details provided to the logs (there are none)")
	fs.Lookup("details").Hidden = true
}

func (o *logsOptions) run(ctx context.Context, args []string) error {
	if len(args) == 0 && !o.latest {
		return errors.New("specify at least one container name or ID to log")
	}
	now := time.Now()
	lo := engine.LogOptions{Follow: o.follow, Tail: &o.tail}
	var err error
	if lo.Since, err = parseTime("since", o.since, now, -1); err != nil {
		return err
	}
	if lo.Until, err = parseTime("until", o.until, now, 1); err != nil {
		return err
	}
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return err
	}
	w := &logWriter{o: o}
	if !o.follow || len(ts) == 1 {
		var errs []error
		for i, t := range ts {
			errs = append(errs, w.container(ctx, e, t.name, i, len(ts) > 1, lo))
		}
		return errors.Join(errs...)
	}
	errs := make([]error, len(ts))
	var wg sync.WaitGroup
	for i, t := range ts {
		wg.Go(func() { errs[i] = w.container(ctx, e, t.name, i, true, lo) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// logWriter prints the lines of one or several containers, whole line by
// whole line, as many at a time as there are.
type logWriter struct {
	o  *logsOptions
	mu sync.Mutex
	b  bytes.Buffer // under mu: not written yet
	to io.Writer    // under mu: where
}

// logChunk is how many bytes are held back at most.
const logChunk = 32 << 10

// flush writes what is held back.
func (w *logWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write()
}

func (w *logWriter) write() error {
	if w.b.Len() == 0 {
		return nil
	}
	_, err := w.to.Write(w.b.Bytes())
	w.b.Reset()
	return err
}

// container prints the log of one container, the i-th.
func (w *logWriter) container(ctx context.Context, e Engine, name string, i int, several bool, lo engine.LogOptions) error {
	// A single container needs no name: as podman's, --names does nothing then.
	prefix, color, end := "", "", ""
	if several {
		c, err := e.Container(ctx, name, false)
		if err != nil {
			return err
		}
		prefix = shortID(c.ID, false)
		if w.o.names {
			prefix = c.Name
		}
		prefix += " "
	}
	if w.o.color {
		colors := [...]int{37, 31, 32, 33, 34, 35, 36}
		color, end = fmt.Sprintf("\x1b[%dm", colors[i%len(colors)]), "\x1b[0m"
	}
	partial := map[string]bool{} // streams in the middle of a line
	lo.Idle = w.flush
	err := e.Logs(ctx, name, lo, func(l engine.LogLine) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		out := w.o.Out
		if l.Stream == "stderr" {
			out = w.o.Err
		}
		if out != w.to || w.b.Len() > logChunk {
			if err := w.write(); err != nil {
				return err
			}
			w.to = out
		}
		w.b.WriteString(color)
		if !partial[l.Stream] {
			w.b.WriteString(prefix)
			if w.o.timestamps {
				w.b.WriteString(l.Time.Format("2006-01-02T15:04:05.000000000Z07:00"))
				w.b.WriteByte(' ')
			}
		}
		w.b.Write(l.Text)
		w.b.WriteString(end) // after every part of a line: of the last one no more may come
		if partial[l.Stream] = l.Partial; !l.Partial {
			w.b.WriteByte('\n')
		}
		return nil
	})
	return errors.Join(err, w.flush())
}
