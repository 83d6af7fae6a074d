package cove

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParsePorts reads PORT or PORT-PORT and gives the first and how many. The errors are podman's.
func ParsePorts(s string) (first, count uint16, err error) {
	if s == "" {
		return 0, 0, errors.New("must provide a non-empty container port to publish")
	}
	begin, end, isRange := strings.Cut(s, "-")
	if first, err = ParsePort(begin); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return first, 1, nil
	}
	if strings.Contains(end, "-") {
		return 0, 0, errors.New("invalid port format - port ranges are formatted as startPort-stopPort")
	}
	last, err := ParsePort(end)
	if err != nil {
		return 0, 0, err
	}
	if last <= first {
		if last == first {
			return first, 1, nil
		}
		return 0, 0, fmt.Errorf("the end port of a range must be higher than the start port - %d is not higher than %d", last, first)
	}
	return first, last - first + 1, nil
}

// ParsePort reads the number of a port.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("invalid port number: %w", err)
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port numbers must be between 1 and 65535 (inclusive), got %d", n)
	}
	return uint16(n), nil
}
