package rendezvous

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStrangers: what is not a member can send what it likes, or nothing at
// all; its connection is closed and the group forms.
func TestStrangers(t *testing.T) {
	hello := append([]byte(magic), make([]byte, nonceSize)...)
	strangers := map[string]func(c net.Conn){
		"nothing":         func(c net.Conn) {},
		"HTTP":            func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: rank0.example.org\r\n\r\n") },
		"half a hello":    func(c net.Conn) { c.Write(hello[:30]) },
		"another version": func(c net.Conn) { c.Write(bytes.Replace(hello, []byte("1\n"), []byte("2\n"), 1)) },
		"a wrong proof":   func(c net.Conn) { c.Write(hello); c.Write(make([]byte, macSize)) },
		"zeros":           func(c net.Conn) { c.Write(make([]byte, 1<<16)) },
		"hangs up":        func(c net.Conn) { c.Close() },
		"a giant frame": func(c net.Conn) {
			if x, err := dialed(c, []byte(testToken)); err == nil {
				x.c.Write([]byte{0xff, 0xff, 0xff, 0xff})
			}
		},
		"a forged frame": func(c net.Conn) {
			if x, err := dialed(c, []byte(testToken)); err == nil {
				x.c.Write(append(binary.BigEndian.AppendUint32(nil, 40), make([]byte, 40)...))
			}
		},
		"a hello that is none": func(c net.Conn) {
			if x, err := dialed(c, []byte(testToken)); err == nil {
				x.send(kindHello, []byte("{"), time.Second)
			}
		},
		"no hello": func(c net.Conn) {
			if x, err := dialed(c, []byte(testToken)); err == nil {
				x.send(kindGather, where{}.encode(), time.Second)
			}
		},
		"a hello too long": func(c net.Conn) {
			if x, err := dialed(c, []byte(testToken)); err == nil {
				x.send(kindHello, make([]byte, maxHello), time.Second)
			}
		},
	}
	privateDir(t)
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sessions := make([]*Session, 2)
	first := make(chan error, 1)
	go func() {
		var err error
		sessions[0], err = Join(ctx, config(address, 0, 2), os.Getenv)
		first <- err
	}()
	for name, f := range strangers {
		var c net.Conn
		for c == nil && ctx.Err() == nil {
			c, _ = net.Dial("tcp", address) // until rank 0 listens
		}
		defer c.Close()
		f(c)
		if name == "nothing" {
			continue // it has five seconds
		}
		c.SetReadDeadline(time.Now().Add(4 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) && name != "half a hello" {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	var err error
	if sessions[1], err = Join(ctx, config(address, 1, 2), os.Getenv); err == nil {
		err = <-first
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sessions[0].Close()
	defer sessions[1].Close()
	gathers(t, sessions)
	if n := sessions[0].Stats().Rejected; n < uint64(len(strangers)-3) {
		t.Errorf("%d connections were turned away, of %d strangers", n, len(strangers))
	}
}

// TestBrokenMember: a member that breaks the protocol is cut off like one that
// is gone, and named.
func TestBrokenMember(t *testing.T) {
	for name, f := range map[string]func(x *conn){
		"an unknown frame": func(x *conn) { x.send(99, nil, time.Second) },
		"an unknown round": func(x *conn) { x.send(kindGather, []byte{7, 0, 0, 0, 0}, time.Second) },
		"half a round":     func(x *conn) { x.send(kindGiveUp, []byte{0, 0}, time.Second) },
		"twice": func(x *conn) {
			x.send(kindGather, where{0, 9}.encode(), time.Second)
			x.send(kindGather, where{0, 9}.encode(), time.Second)
		},
		"a repeated frame": func(x *conn) { x.sent--; x.send(kindBeat, nil, time.Second) },
		"not sealed":       func(x *conn) { x.mu.Lock(); x.c.Write(make([]byte, 100)); x.mu.Unlock() },
		"too many rounds": func(x *conn) {
			for i := range uint32(maxRounds + 1) {
				x.send(kindGather, where{0, 100 + i}.encode(), time.Second)
			}
		},
		"too long": func(x *conn) { x.send(kindGather, make([]byte, MaxMessage+100), time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			sessions := mustJoin(t, 3, nil)
			f(sessions[2].conn)
			_, err := sessions[1].AllGather(t.Context(), nil)
			var gone *RankError
			if !errors.As(err, &gone) || gone.Rank != 2 || !strings.Contains(gone.What, "cut off") {
				t.Errorf("rank 1: %v", err)
			}
		})
	}
}

// TestRoundsOfOthers: a member that has opened all rounds that it may does not get
// another one cut off.
func TestRoundsOfOthers(t *testing.T) {
	sessions := mustJoin(t, 3, nil)
	for i := range uint32(maxRounds) {
		sessions[2].conn.send(kindGather, where{0, 100 + i}.encode(), time.Second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := sessions[1].AllGather(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("rank 1: %v", err)
	}
}

// TestSealed: nothing of what ranks say can be read on the wire, and a changed
// bit is noticed.
func TestSealed(t *testing.T) {
	var wire bytes.Buffer
	a, b := net.Pipe()
	done := make(chan error, 1)
	var far *conn
	go func() {
		var err error
		far, err = accepted(b, []byte(testToken))
		done <- err
	}()
	near, err := dialed(a, []byte(testToken))
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	near.c = recorder{a, &wire}
	go near.send(kindGather, []byte("plain text"), time.Second)
	k, p, err := far.receive()
	if err != nil || k != kindGather || string(p) != "plain text" {
		t.Fatalf("%d %q %v", k, p, err)
	}
	if bytes.Contains(wire.Bytes(), []byte("plain")) {
		t.Error("the text can be read")
	}
	for i := range wire.Bytes() {
		frame := bytes.Clone(wire.Bytes())
		frame[i] ^= 1
		x := &conn{r: newReader(frame), in: far.in, limit: maxHello}
		if _, _, err := x.receive(); err == nil {
			t.Errorf("a flipped bit in byte %d was not noticed", i)
		}
	}
}

type recorder struct {
	net.Conn
	w io.Writer
}

func (r recorder) Write(p []byte) (int, error) { r.w.Write(p); return r.Conn.Write(p) }

// TestImpostor: who listens at rank 0's address without the secret gets nothing.
func TestImpostor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		in := make([]byte, len(magic)+nonceSize)
		io.ReadFull(c, in)
		c.Write(append([]byte(magic), make([]byte, nonceSize+macSize)...))
		rest, _ := io.ReadAll(c)
		got <- append(in, rest...)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := Join(ctx, config(ln.Addr().String(), 1, 2), os.Getenv); !errors.Is(err, ErrSecret) {
		t.Errorf("got %v", err)
	}
	if n := len(<-got); n != len(magic)+nonceSize {
		t.Errorf("the impostor got %d bytes", n)
	}
}

// TestHello bounds what a hello may be.
func TestHello(t *testing.T) {
	c := config("127.0.0.1:1", 0, MaxSize)
	c.Data = make([]byte, maxData)
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if n := len(encodeJSON(c.member())); n > maxHello-100 {
		t.Errorf("a legal hello has %d bytes, and %d are allowed", n, maxHello)
	}
	if text := fmt.Sprint(&RankError{3, "host", 7, "exited"}); text != "rank 3 (host, pid 7) exited" {
		t.Error(text)
	}
}
