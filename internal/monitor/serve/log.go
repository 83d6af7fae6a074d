package serve

import (
	"bytes"
	"cmp"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// logger writes the container's log. A log that cannot be written never stops
// the container.
type logger struct {
	conf  *wire.Log
	fd    int
	size  int64
	plain bool   // it is a regular file, which may be rotated
	torn  bool   // its last line is a part of one, since the disk was full
	line  []byte // one write under way, kept for its space
	entry journal.Entry
	// journal is where entries go, with fields that all of them have; nil
	// with another driver.
	journal  *journal.Socket
	id, name string
}

// openLog opens the log as the envelope says.
func (m *Monitor) openLog() error {
	if m.env.Log.Driver != "journald" {
		return m.log.open(&m.env.Log)
	}
	m.log = logger{conf: &m.env.Log, fd: -1, journal: &journal.Socket{}, id: m.env.ID, name: m.env.Name}
	return nil
}

// tell sends a line, or a part of one, to the journal, with conmon's fields.
func (l *logger) tell(priority string, text []byte, whole bool) {
	short := l.id[:min(len(l.id), cove.ShortIDLength)]
	l.entry.Reset()
	l.entry.Add("MESSAGE", text)
	l.entry.AddString("PRIORITY", priority)
	l.entry.AddString("CONTAINER_ID_FULL", l.id)
	l.entry.AddString("CONTAINER_ID", short)
	l.entry.AddString("CONTAINER_NAME", l.name)
	l.entry.AddString("CONTAINER_TAG", l.conf.Tag)
	l.entry.AddString("SYSLOG_IDENTIFIER", cmp.Or(l.conf.Tag, short))
	if !whole {
		l.entry.AddString("CONTAINER_PARTIAL_MESSAGE", "true")
	}
	_ = l.journal.Send(&l.entry)
}

// open opens the log for appending.
func (l *logger) open(conf *wire.Log) error {
	l.conf, l.fd = conf, -1
	if conf.Driver == "none" || conf.Path == "" {
		return nil
	}
	// A named pipe is not waited for.
	fd, err := unix.Open(conf.Path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.fd, l.size, l.plain, l.torn = fd, st.Size, st.Mode&unix.S_IFMT == unix.S_IFREG, false
	return nil
}

// write records output as lines: in the k8s-file format
//
//	2006-01-02T15:04:05.000000000-07:00 stdout F text
//
// (P instead of F when the line goes on in the next record), or in docker's
// json-file format.
func (l *logger) write(kind wire.Kind, data []byte) {
	if l.fd < 0 && l.journal == nil {
		return
	}
	stream, priority := "stdout", journal.Info
	if kind == wire.Stderr {
		stream, priority = "stderr", journal.Error
	}
	var stamp [40]byte
	now := time.Now()
	record := l.line[:0]
	if l.torn {
		record = append(record, '\n')
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		text, whole := data, false
		if end >= 0 {
			text, whole = data[:end], true
			data = data[end+1:]
		} else {
			data = nil
		}
		if l.journal != nil {
			l.tell(priority, text, whole)
			continue
		}
		if l.conf.Driver == "json-file" {
			record = appendJSONLine(record, text, whole, stream, now)
			continue
		}
		record = append(record, now.AppendFormat(stamp[:0], "2006-01-02T15:04:05.000000000-07:00")...)
		record = append(append(append(record, ' '), stream...), ' ')
		if whole {
			record = append(record, 'F', ' ')
		} else {
			record = append(record, 'P', ' ')
		}
		record = append(append(record, text...), '\n')
	}
	if l.journal != nil {
		return
	}
	if n, err := unix.Write(l.fd, record); err == nil {
		l.size += int64(n)
		l.torn = n < len(record)
	}
	if cap(record) <= 64<<10 {
		l.line = record[:0]
	}
	if l.plain && l.conf.MaxSize > 0 && l.size >= l.conf.MaxSize {
		l.rotate()
	}
}

// rotate moves path to path.1, path.1 to path.2 and so on. A reader that has
// the old file open goes on reading it.
func (l *logger) rotate() {
	p := l.conf.Path
	if l.conf.MaxFile < 1 {
		_ = unix.Unlink(p)
	}
	for n := l.conf.MaxFile; n >= 1; n-- {
		from := p
		if n > 1 {
			from = p + "." + strconv.Itoa(n-1)
		}
		_ = os.Rename(from, p+"."+strconv.Itoa(n))
	}
	old := l.fd
	if err := l.open(l.conf); err != nil {
		l.fd, l.size = old, 0 // better a large log than none
		return
	}
	_ = unix.Close(old)
}

// appendJSONLine appends {"log":"text\n","stream":"stdout","time":"…"}.
func appendJSONLine(b, text []byte, whole bool, stream string, now time.Time) []byte {
	b = append(b, `{"log":"`...)
	b = appendJSONText(b, text)
	if whole {
		b = append(b, `\n`...)
	}
	b = append(append(append(b, `","stream":"`...), stream...), `","time":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

func appendJSONText(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	for _, r := range string(text) { // what is not UTF-8 becomes U+FFFD, as in docker
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}
