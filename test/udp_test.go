package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// udpVar makes this program a UDP server ("serve ADDRESS") that answers with
// what it gets, or a client ("ask ADDRESS TEXT") that prints the answer:
// busybox has neither. $SELF is its path; it runs in containers too.
const udpVar = "COVE_TEST_UDP"

func udp(what string) int {
	verb, rest, _ := strings.Cut(what, " ")
	addr, text, _ := strings.Cut(rest, " ")
	err := udpServe(addr)
	if verb == "ask" {
		err = udpAsk(addr, text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func udpServe(addr string) error {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(buf[:n], from); err != nil {
			return err
		}
	}
}

func udpAsk(addr, text string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	fmt.Println(string(buf[:n]))
	return err
}
