using System.Text;

namespace IntegrationTests.Vm;

/// <summary>A boot sector of our own: it prints a text on the first serial port and stops.</summary>
internal static class BootSector
{
    // The BIOS loads it to 0000:7c00.
    private static readonly byte[] s_code =
    [
        0xfa,                   // cli
        0x31, 0xc0,             // xor ax, ax
        0x8e, 0xd8,             // mov ds, ax
        0xbe, 0x1d, 0x7c,       // mov si, text (0x7c00 + 29)
        0xfc,                   // cld
        0xac,                   // next: lodsb
        0x84, 0xc0,             // test al, al
        0x74, 0x0c,             // jz stop
        0x88, 0xc4,             // mov ah, al
        0xba, 0xfd, 0x03,       // mov dx, 3fd: line status
        0xec,                   // wait: in al, dx
        0xa8, 0x20,             // test al, 20: transmitter empty
        0x74, 0xfb,             // jz wait
        0xeb, 0x03,             // jmp send
        0xf4,                   // stop: hlt
        0xeb, 0xfd,             // jmp stop
    ];

    private static readonly byte[] s_send =
    [
        0x88, 0xe0,             // send: mov al, ah
        0xb2, 0xf8,             // mov dl, f8: transmit
        0xee,                   // out dx, al
        0xeb, 0x00,             // jmp next (set below)
    ];

    /// <summary>512 bytes with the text, which is shorter than 400 characters of ASCII.</summary>
    public static byte[] Printing(string text)
    {
        byte[] sector = new byte[512];
        s_code.CopyTo(sector, 0);
        int send = s_code.Length;
        s_send.CopyTo(sector, send);
        int end = send + s_send.Length;
        sector[end - 1] = unchecked((byte)(9 - end));
        sector[6] = (byte)end;
        Encoding.ASCII.GetBytes(text + "\r\n\0").CopyTo(sector, end);
        sector[510] = 0x55;
        sector[511] = 0xaa;
        return sector;
    }
}
