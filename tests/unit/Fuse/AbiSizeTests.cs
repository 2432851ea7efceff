using Fuse;

namespace UnitTests.FuseTests;

public sealed unsafe class AbiSizeTests
{
    [Fact]
    public void Structures_have_the_sizes_of_the_kernels_ABI()
    {
        Assert.Equal(40, sizeof(FuseInHeader));
        Assert.Equal(16, sizeof(FuseOutHeader));
        Assert.Equal(64, sizeof(FuseInitIn));
        Assert.Equal(64, sizeof(FuseInitOut));
        Assert.Equal(88, sizeof(FuseAttr));
        Assert.Equal(128, sizeof(FuseEntryOut));
        Assert.Equal(104, sizeof(FuseAttrOut));
        Assert.Equal(80, sizeof(FuseStatfsOut));
        Assert.Equal(16, sizeof(FuseOpenOut));
        Assert.Equal(8, sizeof(FuseWriteOut));
        Assert.Equal(8, sizeof(FuseLseekOut));
        Assert.Equal(8, sizeof(FuseGetXattrOut));
        Assert.Equal(16, sizeof(FuseIoctlOut));
        Assert.Equal(24, sizeof(FuseDirent));
        Assert.Equal(16, sizeof(FuseGetAttrIn));
        Assert.Equal(88, sizeof(FuseSetAttrIn));
        Assert.Equal(8, sizeof(FuseOpenIn));
        Assert.Equal(40, sizeof(FuseReadIn));
        Assert.Equal(40, sizeof(FuseWriteIn));
        Assert.Equal(24, sizeof(FuseReleaseIn));
        Assert.Equal(24, sizeof(FuseFlushIn));
        Assert.Equal(16, sizeof(FuseFsyncIn));
        Assert.Equal(8, sizeof(FuseAccessIn));
        Assert.Equal(8, sizeof(FuseSetXattrIn));
        Assert.Equal(8, sizeof(FuseGetXattrIn));
        Assert.Equal(8, sizeof(FuseInterruptIn));
        Assert.Equal(32, sizeof(FuseIoctlIn));
        Assert.Equal(32, sizeof(FuseFallocateIn));
        Assert.Equal(24, sizeof(FuseLseekIn));
        Assert.Equal(56, sizeof(FuseCopyFileRangeIn));
        Assert.Equal(24, sizeof(FuseNotifyInvalidateInodeOut));
        Assert.Equal(24, sizeof(FuseNotifyStoreOut));
    }

    [Fact]
    public void Fields_of_setattr_and_init_are_where_the_kernel_has_them()
    {
        FuseSetAttrIn set = default;
        FuseInitOut init = default;

        Assert.Equal(16, (byte*)&set.Size - (byte*)&set);
        Assert.Equal(32, (byte*)&set.AccessTime - (byte*)&set);
        Assert.Equal(68, (byte*)&set.Mode - (byte*)&set);
        Assert.Equal(76, (byte*)&set.UserId - (byte*)&set);
        Assert.Equal(20, (byte*)&init.MaxWrite - (byte*)&init);
        Assert.Equal(28, (byte*)&init.MaxPages - (byte*)&init);
        Assert.Equal(32, (byte*)&init.Flags2 - (byte*)&init);
        Assert.Equal(40, (byte*)&init.RequestTimeout - (byte*)&init);
    }
}
