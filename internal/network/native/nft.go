package native

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tableName is the one table, of family inet.
const tableName = "cove"

// Numbers of linux/netfilter/nf_tables.h and of nft's data types, that
// golang.org/x/sys lacks. The types serve nft(8)'s listing only.
const (
	typeIPv4   = uint32(7)
	typeIPv6   = uint32(8)
	typeProto  = uint32(12)
	typePort   = uint32(13)
	typeIfname = uint32(41)

	setMap          = uint32(0x8)        // NFT_SET_MAP
	dataVerdict     = uint32(0xffffff00) // NFT_DATA_VERDICT
	verdictAccept   = uint32(1)
	verdictDrop     = uint32(0)
	verdictJump     = ^uint32(2) // NFT_JUMP, -3
	verdictReturn   = ^uint32(4) // NFT_RETURN, -5
	cmpEq           = uint32(0)
	cmpNeq          = uint32(1)
	payloadNetwork  = uint32(1)
	payloadTransp   = uint32(2)
	natDestination  = uint32(1) // NFT_NAT_DNAT
	ctStatusDNAT    = uint32(1 << 5)
	ctEstablished   = uint32(1 << 1) // NF_CT_STATE_BIT of enum ip_conntrack_info
	ctRelated       = uint32(1 << 2)
	hookPrerouting  = uint32(0)
	hookForward     = uint32(2)
	hookOutput      = uint32(3)
	hookPostrouting = uint32(4)
	chainBase       = uint32(1) // NFT_CHAIN_BASE
	udataComment    = 0         // NFTNL_UDATA_{RULE,SET_ELEM}_COMMENT
	chainUserdata   = 12        // NFTA_CHAIN_USERDATA
	ifnameLen       = 16
	sizeofNfgenmsg  = 4
)

// batch builds one nfnetlink batch: all of it takes effect, or nothing.
type batch struct {
	message
	sets uint32 // counts the IDs that new sets need
}

func newBatch() *batch {
	b := &batch{}
	b.begin(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)...)
	b.end()
	return b
}

// newBatchAt is one that is refused with ERESTART if the ruleset is of another
// generation by then.
func newBatchAt(generation uint32) *batch {
	b := &batch{}
	b.begin(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)...)
	b.be32(unix.NFNL_BATCH_GENID, generation)
	b.end()
	return b
}

// bytes completes the batch. The last of its messages asks for the answer
// that proves the commit.
func (b *batch) bytes() []byte {
	b.ack()
	b.begin(unix.NFNL_MSG_BATCH_END, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)...)
	b.end()
	return b.b
}

// empty reports whether the batch has no message yet.
func (b *batch) empty() bool { return b.seq == 1 }

// nfgen is a struct nfgenmsg.
func nfgen(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// nft starts a message of the nf_tables subsystem.
func (m *message) nft(typ, flags uint16, family byte) {
	m.begin(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, nfgen(family, 0)...)
}

func (b *batch) table(typ uint16) {
	flags := uint16(0)
	if typ == unix.NFT_MSG_NEWTABLE {
		flags = unix.NLM_F_CREATE
	}
	b.nft(typ, flags, unix.NFPROTO_INET)
	b.str(unix.NFTA_TABLE_NAME, tableName)
	b.end()
}

// chain makes a chain and empties it.
func (b *batch) chain(name string) {
	b.nft(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.str(unix.NFTA_CHAIN_TABLE, tableName)
	b.str(unix.NFTA_CHAIN_NAME, name)
	b.end()
	b.flush(name)
}

// hook makes a base chain and empties it. Its policy is accept.
func (b *batch) hook(name, typ string, number uint32, priority int32) {
	b.nft(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.str(unix.NFTA_CHAIN_TABLE, tableName)
	b.str(unix.NFTA_CHAIN_NAME, name)
	h := b.nest(unix.NFTA_CHAIN_HOOK)
	b.be32(unix.NFTA_HOOK_HOOKNUM, number)
	b.be32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	b.close(h)
	b.be32(unix.NFTA_CHAIN_POLICY, verdictAccept)
	b.str(unix.NFTA_CHAIN_TYPE, typ)
	b.end()
	b.flush(name)
}

func (b *batch) flush(chain string) {
	b.nft(unix.NFT_MSG_DELRULE, 0, unix.NFPROTO_INET)
	b.str(unix.NFTA_RULE_TABLE, tableName)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	b.end()
}

func (b *batch) deleteChain(name string) {
	b.nft(unix.NFT_MSG_DELCHAIN, 0, unix.NFPROTO_INET)
	b.str(unix.NFTA_CHAIN_TABLE, tableName)
	b.str(unix.NFTA_CHAIN_NAME, name)
	b.end()
}

// set makes a set, or a map when dataType is not 0.
func (b *batch) set(name string, keyType, keyLen, dataType, dataLen uint32) {
	b.sets++
	b.nft(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.str(unix.NFTA_SET_TABLE, tableName)
	b.str(unix.NFTA_SET_NAME, name)
	flags := uint32(0)
	if dataType != 0 {
		flags = setMap
	}
	b.be32(unix.NFTA_SET_FLAGS, flags)
	b.be32(unix.NFTA_SET_KEY_TYPE, keyType)
	b.be32(unix.NFTA_SET_KEY_LEN, keyLen)
	if dataType != 0 {
		b.be32(unix.NFTA_SET_DATA_TYPE, dataType)
		if dataType != dataVerdict {
			b.be32(unix.NFTA_SET_DATA_LEN, dataLen)
		}
	}
	b.be32(unix.NFTA_SET_ID, b.sets)
	// How nft(8) prints the key: 0 (key byte order), 4 bytes, 1 (host) for
	// names, 2 (big endian) for addresses.
	order := uint32(2)
	if keyType == typeIfname {
		order = 1
	}
	b.attr(unix.NFTA_SET_USERDATA, binary.NativeEndian.AppendUint32([]byte{0, 4}, order))
	b.end()
}

// element is a set's or map's element.
type element struct {
	set     string
	key     []byte
	data    []byte // the value of a map
	verdict uint32 // the value of a verdict map, when isVerdict
	chain   string // that verdict's chain
	comment string
	// isVerdict tells a verdict map's element from others.
	isVerdict bool
}

// add adds an element; one that is there with the same value is no error.
func (b *batch) add(e element) { b.elem(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, e) }

// remove deletes an element by its key.
func (b *batch) remove(set string, key []byte) {
	b.elem(unix.NFT_MSG_DELSETELEM, 0, element{set: set, key: key})
}

func (m *message) elem(typ, flags uint16, e element) {
	m.nft(typ, flags, unix.NFPROTO_INET)
	m.str(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	m.str(unix.NFTA_SET_ELEM_LIST_SET, e.set)
	list := m.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	item := m.nest(unix.NFTA_LIST_ELEM)
	m.value(unix.NFTA_SET_ELEM_KEY, e.key)
	switch {
	case e.isVerdict:
		d := m.nest(unix.NFTA_SET_ELEM_DATA)
		m.verdict(e.verdict, e.chain)
		m.close(d)
	case e.data != nil:
		m.value(unix.NFTA_SET_ELEM_DATA, e.data)
	}
	if e.comment != "" {
		m.attr(unix.NFTA_SET_ELEM_USERDATA, commentOf(e.comment))
	}
	m.close(item)
	m.close(list)
	m.end()
}

// commentOf is a comment as nft(8) stores it: type, length, text and zero.
// At most 128 characters.
func commentOf(s string) []byte {
	b := append([]byte{udataComment, byte(len(s) + 1)}, s...)
	return append(b, 0)
}

// commentIn finds the comment in user data; "" when there is none.
func commentIn(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == udataComment {
			return cstring(b[2 : 2+b[1]])
		}
		b = b[2+b[1]:]
	}
	return ""
}

func (m *message) value(typ uint16, v []byte) {
	at := m.nest(typ)
	m.attr(unix.NFTA_DATA_VALUE, v)
	m.close(at)
}

func (m *message) verdict(code uint32, chain string) {
	at := m.nest(unix.NFTA_DATA_VERDICT)
	m.be32(unix.NFTA_VERDICT_CODE, code)
	if chain != "" {
		m.str(unix.NFTA_VERDICT_CHAIN, chain)
	}
	m.close(at)
}

// ifname is a link's name as a key.
func ifname(s string) []byte {
	b := make([]byte, ifnameLen)
	copy(b, s)
	return b
}

// rule appends a rule to a chain of the table.
func (b *batch) rule(chain string, exprs ...expr) {
	b.ruleIn(unix.NFPROTO_INET, tableName, chain, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "", exprs)
}

func (b *batch) ruleIn(family byte, table, chain string, flags uint16, comment string, exprs []expr) {
	b.nft(unix.NFT_MSG_NEWRULE, flags, family)
	b.str(unix.NFTA_RULE_TABLE, table)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	list := b.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		e(&b.message)
	}
	b.close(list)
	if comment != "" {
		b.attr(unix.NFTA_RULE_USERDATA, commentOf(comment))
	}
	b.end()
}

// expr writes one or more expressions of a rule.
type expr func(*message)

// expression writes one expression with the attributes that fill writes.
func (m *message) expression(name string, fill func()) {
	item := m.nest(unix.NFTA_LIST_ELEM)
	m.str(unix.NFTA_EXPR_NAME, name)
	data := m.nest(unix.NFTA_EXPR_DATA)
	fill()
	m.close(data)
	m.close(item)
}

func meta(key, register uint32) expr {
	return func(m *message) {
		m.expression("meta", func() {
			m.be32(unix.NFTA_META_KEY, key)
			m.be32(unix.NFTA_META_DREG, register)
		})
	}
}

func cmp(op uint32, v []byte) expr {
	return func(m *message) {
		m.expression("cmp", func() {
			m.be32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
			m.be32(unix.NFTA_CMP_OP, op)
			m.value(unix.NFTA_CMP_DATA, v)
		})
	}
}

func payload(base, offset, length, register uint32) expr {
	return func(m *message) {
		m.expression("payload", func() {
			m.be32(unix.NFTA_PAYLOAD_DREG, register)
			m.be32(unix.NFTA_PAYLOAD_BASE, base)
			m.be32(unix.NFTA_PAYLOAD_OFFSET, offset)
			m.be32(unix.NFTA_PAYLOAD_LEN, length)
		})
	}
}

// mask keeps the bits of register 1 that are set in v.
func mask(v []byte) expr {
	return func(m *message) {
		m.expression("bitwise", func() {
			m.be32(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1)
			m.be32(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1)
			m.be32(unix.NFTA_BITWISE_LEN, uint32(len(v)))
			m.value(unix.NFTA_BITWISE_MASK, v)
			m.value(unix.NFTA_BITWISE_XOR, make([]byte, len(v)))
		})
	}
}

// lookup goes on when register is in the set; a map's value goes to result
// (0 is the verdict register).
func lookup(set string, register uint32, result ...uint32) expr {
	return func(m *message) {
		m.expression("lookup", func() {
			m.str(unix.NFTA_LOOKUP_SET, set)
			m.be32(unix.NFTA_LOOKUP_SREG, register)
			if len(result) > 0 {
				m.be32(unix.NFTA_LOOKUP_DREG, result[0])
			}
		})
	}
}

func verdict(code uint32, chain ...string) expr {
	return func(m *message) {
		m.expression("immediate", func() {
			m.be32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
			data := m.nest(unix.NFTA_IMMEDIATE_DATA)
			to := ""
			if len(chain) > 0 {
				to = chain[0]
			}
			m.verdict(code, to)
			m.close(data)
		})
	}
}

func counter(m *message) {
	m.expression("counter", func() {})
}

func masquerade(m *message) {
	m.expression("masq", func() {})
}

// family matches packets of one family.
func family(f byte) expr {
	return both(meta(unix.NFT_META_NFPROTO, unix.NFT_REG_1), cmp(cmpEq, []byte{f}))
}

// out matches the link that a packet leaves by.
func out(name string) expr {
	return both(meta(unix.NFT_META_OIFNAME, unix.NFT_REG_1), cmp(cmpEq, ifname(name)))
}

// inSet and outSet match a packet's link by a set of names, or look its
// verdict up in a map when result is given.
func inSet(set string, result ...uint32) expr {
	return both(meta(unix.NFT_META_IIFNAME, unix.NFT_REG_1), lookup(set, unix.NFT_REG_1, result...))
}

func outSet(set string, result ...uint32) expr {
	return both(meta(unix.NFT_META_OIFNAME, unix.NFT_REG_1), lookup(set, unix.NFT_REG_1, result...))
}

// translated matches packets of connections whose destination was
// translated (or was not).
func translated(yes bool) expr {
	op := cmpEq
	if yes {
		op = cmpNeq
	}
	return connection(unix.NFT_CT_STATUS, ctStatusDNAT, op)
}

// established matches packets of connections that have had an answer, and errors
// about connections.
func established(m *message) { connection(unix.NFT_CT_STATE, ctEstablished|ctRelated, cmpNeq)(m) }

// connection matches packets whose connection has none (cmpEq) or any
// (cmpNeq) of the bits given.
func connection(key, bits, op uint32) expr {
	return both(
		func(m *message) {
			m.expression("ct", func() {
				m.be32(unix.NFTA_CT_KEY, key)
				m.be32(unix.NFTA_CT_DREG, unix.NFT_REG_1)
			})
		},
		mask(binary.NativeEndian.AppendUint32(nil, bits)),
		cmp(op, make([]byte, 4)))
}

// toHost matches packets whose destination is an address of this host.
func toHost(m *message) {
	m.expression("fib", func() {
		m.be32(unix.NFTA_FIB_DREG, unix.NFT_REG_1)
		m.be32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		m.be32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	})
	cmp(cmpEq, binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL))(m)
}

// source and dest match packets from or to a prefix.
func source(p netip.Prefix) expr { return prefix(p, 12, 8) }
func dest(p netip.Prefix) expr   { return prefix(p, 16, 24) }

// prefix matches an address at the offset that it has in the family's header.
func prefix(p netip.Prefix, offset4, offset6 uint32) expr {
	f, offset, length := byte(unix.NFPROTO_IPV4), offset4, uint32(4)
	if p.Addr().Is6() {
		f, offset, length = unix.NFPROTO_IPV6, offset6, 16
	}
	bits := make([]byte, length)
	for i := range p.Bits() {
		bits[i/8] |= 0x80 >> (i % 8)
	}
	return both(family(f), payload(payloadNetwork, offset, length, unix.NFT_REG_1),
		mask(bits), cmp(cmpEq, p.Masked().Addr().AsSlice()))
}

// both is several expressions as one.
func both(es ...expr) expr {
	return func(m *message) {
		for _, e := range es {
			e(m)
		}
	}
}
