package emu

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// Codes that package driver does not name.
const (
	codeLaunchTimeout        driver.Code = 702
	codeCaptureUnmatched     driver.Code = 903
	codeCaptureUnjoined      driver.Code = 904
	codeCaptureIsolation     driver.Code = 905
	codeCapturedEvent        driver.Code = 907
	codeContextIsDestroyed   driver.Code = 709
	codeUnsupportedLimit     driver.Code = 215
	codeInvalidAddressSpace  driver.Code = 717
	codeInvalidPC            driver.Code = 718
	codeCaptureMerge         driver.Code = 902
	codePeerAccessNotEnabled driver.Code = 705
)

var codeNames = map[driver.Code]string{
	driver.CodeInvalidValue:       "CUDA_ERROR_INVALID_VALUE",
	driver.CodeOutOfMemory:        "CUDA_ERROR_OUT_OF_MEMORY",
	driver.CodeNotInitialized:     "CUDA_ERROR_NOT_INITIALIZED",
	driver.CodeDeinitialized:      "CUDA_ERROR_DEINITIALIZED",
	driver.CodeNoDevice:           "CUDA_ERROR_NO_DEVICE",
	driver.CodeInvalidDevice:      "CUDA_ERROR_INVALID_DEVICE",
	driver.CodeInvalidImage:       "CUDA_ERROR_INVALID_IMAGE",
	driver.CodeInvalidContext:     "CUDA_ERROR_INVALID_CONTEXT",
	driver.CodeNoBinaryForGPU:     "CUDA_ERROR_NO_BINARY_FOR_GPU",
	driver.CodeInvalidPTX:         "CUDA_ERROR_INVALID_PTX",
	driver.CodeInvalidHandle:      "CUDA_ERROR_INVALID_HANDLE",
	driver.CodeIllegalState:       "CUDA_ERROR_ILLEGAL_STATE",
	driver.CodeNotFound:           "CUDA_ERROR_NOT_FOUND",
	driver.CodeNotReady:           "CUDA_ERROR_NOT_READY",
	driver.CodeIllegalAddress:     "CUDA_ERROR_ILLEGAL_ADDRESS",
	driver.CodeLaunchResources:    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
	driver.CodeMisalignedAddress:  "CUDA_ERROR_MISALIGNED_ADDRESS",
	driver.CodeIllegalInstruction: "CUDA_ERROR_ILLEGAL_INSTRUCTION",
	driver.CodeLaunchFailed:       "CUDA_ERROR_LAUNCH_FAILED",
	driver.CodeNotPermitted:       "CUDA_ERROR_NOT_PERMITTED",
	driver.CodeNotSupported:       "CUDA_ERROR_NOT_SUPPORTED",
	driver.CodeSystemNotReady:     "CUDA_ERROR_SYSTEM_NOT_READY",
	driver.CodeCaptureUnsupported: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
	driver.CodeCaptureInvalidated: "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
	driver.CodeUnknown:            "CUDA_ERROR_UNKNOWN",
	codeLaunchTimeout:             "CUDA_ERROR_LAUNCH_TIMEOUT",
	codeCaptureMerge:              "CUDA_ERROR_STREAM_CAPTURE_MERGE",
	codeCaptureUnmatched:          "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
	codeCaptureUnjoined:           "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
	codeCaptureIsolation:          "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
	codeCapturedEvent:             "CUDA_ERROR_CAPTURED_EVENT",
	codeContextIsDestroyed:        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
	codePeerAccessNotEnabled:      "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
	codeInvalidAddressSpace:       "CUDA_ERROR_INVALID_ADDRESS_SPACE",
	codeInvalidPC:                 "CUDA_ERROR_INVALID_PC",
	codeUnsupportedLimit:          "CUDA_ERROR_UNSUPPORTED_LIMIT",
}

func codeName(c driver.Code) string {
	if n, ok := codeNames[c]; ok {
		return n
	}
	return fmt.Sprintf("CUDA_ERROR_%d", int(c))
}

// fail makes the error of the driver call op.
func fail(op string, c driver.Code, format string, args ...any) error {
	return &driver.Error{Op: op, Code: c, Name: codeName(c), Text: fmt.Sprintf(format, args...)}
}

// enter starts the driver call op on dev (nil where it has none): injected
// errors first, then a closed driver, then the device's sticky error.
func (d *Driver) enter(op string, dev *Device) error {
	if f := d.cfg.Inject; f != nil {
		n := -1
		if dev != nil {
			n = dev.ordinal
		}
		if c := f(op, n); c != 0 {
			return fail(op, c, "injected by the test configuration")
		}
	}
	if d.closed.Load() {
		return fail(op, driver.CodeDeinitialized, "the emulated driver is closed")
	}
	if dev != nil {
		if e := dev.sticky.Load(); e != nil {
			return &driver.Error{Op: op, Code: e.Code, Name: e.Name, Text: e.Text}
		}
	}
	return nil
}
