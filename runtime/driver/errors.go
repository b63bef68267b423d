package driver

import (
	"errors"
	"fmt"
)

// Code is a CUDA driver result code.
type Code int

// The codes that moegen itself tells apart; every other code is carried as is.
const (
	CodeInvalidValue       Code = 1
	CodeOutOfMemory        Code = 2
	CodeNotInitialized     Code = 3
	CodeDeinitialized      Code = 4
	CodeNoDevice           Code = 100
	CodeInvalidDevice      Code = 101
	CodeInvalidImage       Code = 200
	CodeInvalidContext     Code = 201
	CodeNoBinaryForGPU     Code = 209
	CodeInvalidPTX         Code = 218
	CodeInvalidHandle      Code = 400
	CodeIllegalState       Code = 401
	CodeNotFound           Code = 500
	CodeNotReady           Code = 600
	CodeIllegalAddress     Code = 700
	CodeLaunchResources    Code = 701
	CodeMisalignedAddress  Code = 716
	CodeIllegalInstruction Code = 715
	CodeLaunchFailed       Code = 719
	CodeNotPermitted       Code = 800
	CodeNotSupported       Code = 801
	CodeSystemNotReady     Code = 802
	CodeCaptureUnsupported Code = 900
	CodeCaptureInvalidated Code = 901
	CodeUnknown            Code = 999
)

// Error is a failed driver call.
type Error struct {
	Op   string // the call, by its CUDA name, e.g. "cuMemCreate"
	Code Code
	Name string // the code's name, e.g. "CUDA_ERROR_OUT_OF_MEMORY"
	Text string // what the driver, or the emulator, says about it
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%d): %s", e.Op, e.Name, int(e.Code), e.Text)
}

// Is makes errors.Is(err, ErrNotSupported) and the like work on codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Op == "" && t.Code == e.Code
}

// CodeOf returns the code of the driver error in err's chain, 0 if there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Errors to compare with through errors.Is.
var (
	ErrOutOfMemory  error = &Error{Code: CodeOutOfMemory}
	ErrNotSupported error = &Error{Code: CodeNotSupported}
	ErrNotPermitted error = &Error{Code: CodeNotPermitted}

	// ErrNoDriver means that the driver library is not on this machine.
	ErrNoDriver = errors.New("no CUDA driver")
	// ErrNoMulticast means that the binary was built with -tags nomulticast.
	ErrNoMulticast = errors.New("multicast is compiled out (build tag nomulticast)")
)
