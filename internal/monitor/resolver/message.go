package resolver

import "encoding/binary"

// Numbers of RFC 1035, 3596 and 6891.
const (
	headerLen = 12
	maxName   = 255 // octets on the wire
	maxLabel  = 63

	typeA    = 1
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeANY  = 255
	classIN  = 1

	rcodeOK       = 0
	rcodeFormat   = 1
	rcodeServer   = 2
	rcodeNoName   = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	flagResponse  = 0x80 // first flag octet
	flagOpcode    = 0x78
	flagAuthority = 0x04
	flagTruncated = 0x02
	flagRecursion = 0x01
	flagAvailable = 0x80 // second flag octet
	maskRcode     = 0x0f

	plainSize = 512  // of a UDP answer without EDNS
	mostSize  = 4096 // of a UDP answer with EDNS; it crosses the loopback link only
)

// query is a parsed question. Its name is in lower case, labels joined by
// dots, without the last one: "" is the root.
type query struct {
	id     uint16
	flags  byte // the first flag octet
	name   string
	typ    uint16
	class  uint16
	end    int // of the question in the message
	limit  int // octets that the client takes by UDP
	hasOPT bool
	// plain says that every label is made of the characters of host names:
	// others never match a container.
	plain bool
}

// parse reads a query. It answers with a code to refuse it with, rcodeOK when
// it is good, and false when it deserves no answer at all.
func parse(b []byte) (q query, code byte, answer bool) {
	if len(b) < headerLen || b[2]&flagResponse != 0 {
		return q, 0, false
	}
	q.id, q.flags, q.limit, q.end = binary.BigEndian.Uint16(b), b[2], plainSize, headerLen
	if b[2]&flagOpcode != 0 {
		return q, rcodeNotImp, true
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 || b[2]&flagTruncated != 0 {
		return q, rcodeFormat, true
	}
	name, plain, at, ok := readName(b, headerLen)
	if !ok || len(b)-at < 4 {
		return q, rcodeFormat, true
	}
	q.name, q.plain = name, plain
	q.typ, q.class = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	q.end = at + 4
	// An EDNS record right after the question, where clients put it.
	rest := b[q.end:]
	if b[6]|b[7]|b[8]|b[9] == 0 && len(rest) >= 11 && rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == typeOPT {
		q.hasOPT = true
		q.limit = min(max(int(binary.BigEndian.Uint16(rest[3:])), plainSize), mostSize)
	}
	return q, rcodeOK, true
}

// readName reads the name of a question. Compression there can only point
// into the header, and is refused.
func readName(b []byte, at int) (name string, plain bool, next int, ok bool) {
	var buf [maxName]byte
	out := buf[:0]
	plain = true
	for {
		if at >= len(b) {
			return "", false, 0, false
		}
		n := int(b[at])
		at++
		if n == 0 {
			return string(out), plain, at, true
		}
		if n > maxLabel || at+n > len(b) || len(out)+n+2 > maxName {
			return "", false, 0, false
		}
		if len(out) > 0 {
			out = append(out, '.')
		}
		for _, c := range b[at : at+n] {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			// A dot within a label is not one between labels.
			plain = plain && c != '.' && nameChar(c)
			out = append(out, c)
		}
		at += n
	}
}

// nameChar reports whether c may be in a container's name.
func nameChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// reply starts an answer to the query in b: header and question.
func reply(b []byte, q *query, code byte) []byte {
	out := make([]byte, 0, plainSize)
	out = binary.BigEndian.AppendUint16(out, q.id)
	out = append(out, flagResponse|q.flags&(flagOpcode|flagRecursion), flagAvailable|code)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0)
	if q.end > headerLen {
		out[5] = 1
		out = append(out, b[headerLen:q.end]...)
	}
	return out
}

// addOPT ends an answer with an EDNS record, if the query had one.
func addOPT(out []byte, q *query) []byte {
	if q.hasOPT {
		out[11]++
		out = append(out, 0, 0, typeOPT, byte(mostSize>>8), byte(mostSize&0xff), 0, 0, 0, 0, 0, 0)
	}
	return out
}

// optLen is what addOPT adds.
const optLen = 11

// addRecord adds an answer for the question's name, with time to live 0: what
// is true of containers may not be true in a second.
func addRecord(out []byte, typ uint16, data []byte) []byte {
	binary.BigEndian.PutUint16(out[6:], binary.BigEndian.Uint16(out[6:])+1)
	out = append(out, 0xc0, headerLen) // the question's name
	out = binary.BigEndian.AppendUint16(out, typ)
	out = append(out, 0, classIN, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
	return append(out, data...)
}

// truncated is the answer that sends a client to TCP.
func truncated(b []byte, q *query) []byte {
	out := reply(b, q, rcodeOK)
	out[2] |= flagTruncated
	return addOPT(out, q)
}

// wireName is a name as labels; nil when it is not one.
func wireName(name string) []byte {
	if name == "" || len(name) > maxName-2 {
		return nil
	}
	out := make([]byte, 0, len(name)+2)
	for len(name) > 0 {
		label, rest := name, ""
		for i := range len(name) {
			if name[i] == '.' {
				label, rest = name[:i], name[i+1:]
				break
			}
		}
		if len(label) == 0 || len(label) > maxLabel {
			return nil
		}
		out = append(out, byte(len(label)))
		out = append(out, label...)
		name = rest
	}
	return append(out, 0)
}

// answers reports whether an upstream server's message answers a question
// that was sent with the given ID: the same question and nothing odd.
func answers(b []byte, id uint16, question []byte) bool {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != id || b[2]&flagResponse == 0 {
		return false
	}
	if binary.BigEndian.Uint16(b[4:]) == 0 {
		// A refusal may come without the question.
		return b[3]&maskRcode != rcodeOK && len(b) == headerLen
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 || len(b)-headerLen < len(question) {
		return false
	}
	for i, c := range question {
		d := b[headerLen+i]
		if c != d && (lower(c) != lower(d)) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
