// Package checkpoint knows the files of a checkpoint: what CRIU writes, and the
// archive in which podman and cove hand one on.
package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Statistics are CRIU's of a checkpoint or of a restore, by the names that
// podman prints.
type Statistics []Figure

// Figure is one of the statistics. Times are microseconds.
type Figure struct {
	Name  string
	Value uint64
}

// The files of statistics below the work directory.
const (
	DumpStatistics    = "stats-dump"
	RestoreStatistics = "stats-restore"
)

// The fields of CRIU's messages that podman shows: criu/images/stats.proto.
var figures = map[uint64]map[uint64]string{
	1: {1: "freezing_time", 2: "frozen_time", 3: "memdump_time", 4: "memwrite_time", 5: "pages_scanned", 7: "pages_written"},
	2: {1: "pages_compared", 2: "pages_skipped_cow", 3: "forking_time", 4: "restore_time", 5: "pages_restored"},
}

// The beginning of the file: criu/include/magic.h.
const (
	serviceMagic    = 0x55105940
	statisticsMagic = 0x57093306
)

var errStatistics = errors.New("malformed statistics of CRIU")

// ReadStatistics reads a file of statistics.
func ReadStatistics(name string) (Statistics, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	s, err := parseStatistics(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// parseStatistics reads two magic numbers and the length of one message, which
// has one message as its field, which has numbers.
func parseStatistics(data []byte) (Statistics, error) {
	if len(data) < 12 || binary.LittleEndian.Uint32(data) != serviceMagic || binary.LittleEndian.Uint32(data[4:]) != statisticsMagic {
		return nil, errStatistics
	}
	size := binary.LittleEndian.Uint32(data[8:])
	if data = data[12:]; uint64(size) > uint64(len(data)) {
		return nil, errStatistics
	}
	var s Statistics
	err := fields(data[:size], func(kind, _ uint64, inner []byte) error {
		if inner == nil || figures[kind] == nil {
			return errStatistics
		}
		return fields(inner, func(number, value uint64, inner []byte) error {
			if name := figures[kind][number]; name != "" && inner == nil {
				s = append(s, Figure{name, value})
			}
			return nil
		})
	})
	return s, err
}

// fields calls each for the fields of a protobuf message: numbers, or bytes.
func fields(data []byte, each func(number, value uint64, inner []byte) error) error {
	next := func() (uint64, bool) {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return 0, false
		}
		data = data[n:]
		return v, true
	}
	for len(data) > 0 {
		key, ok := next()
		if !ok {
			return errStatistics
		}
		value, ok := next()
		if !ok {
			return errStatistics
		}
		var inner []byte
		switch key & 7 {
		case 0:
		case 2:
			if value > uint64(len(data)) {
				return errStatistics
			}
			inner, data = data[:value:value], data[value:]
		default:
			return errStatistics
		}
		if err := each(key>>3, value, inner); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON keeps CRIU's order, and leaves out what is zero, as podman does.
func (s Statistics) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, f := range s {
		if f.Value == 0 {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%d", f.Name, f.Value)
	}
	return append(out, '}'), nil
}
