; Made of program.c by python -m convc.backends.cpu.carried. One text for x86_64, aarch64.

%struct.place = type { i64, i64 }
%struct.varying = type { %struct.place, %struct.place, %struct.place, i64 }

define noundef i32 @convc_run(ptr noundef readonly captures(none) %0, ptr noundef %1) local_unnamed_addr nounwind {
  %3 = load i64, ptr %0, align 8
  %4 = inttoptr i64 %3 to ptr
  %5 = getelementptr inbounds nuw i8, ptr %0, i64 16
  %6 = load i64, ptr %5, align 8
  %7 = inttoptr i64 %6 to ptr
  %8 = getelementptr inbounds nuw i8, ptr %0, i64 8
  %9 = load i64, ptr %8, align 8
  %10 = getelementptr inbounds i64, ptr %4, i64 %9
  %11 = getelementptr inbounds nuw i8, ptr %0, i64 24
  %12 = load i64, ptr %11, align 8
  %13 = inttoptr i64 %12 to ptr
  %14 = getelementptr inbounds nuw i8, ptr %1, i64 32
  %15 = load i64, ptr %14, align 8
  %16 = inttoptr i64 %15 to ptr
  tail call fastcc void @run(ptr noundef %4, ptr noundef %10, ptr noundef %7, ptr noundef %13, ptr noundef %1, ptr noundef %16)
  ret i32 0
}

define internal fastcc void @run(ptr noundef %0, ptr noundef readnone captures(address) %1, ptr noundef readonly captures(none) %2, ptr noundef %3, ptr noundef %4, ptr noundef readonly captures(address_is_null) %5) unnamed_addr nounwind {
  %7 = icmp ult ptr %0, %1
  br i1 %7, label %8, label %10

8:
  %9 = icmp eq ptr %5, null
  br label %12

10:
  %11 = icmp eq ptr %5, null
  br i1 %11, label %101, label %100

12:
  %13 = phi ptr [ %0, %8 ], [ %97, %96 ]
  %14 = phi i64 [ 0, %8 ], [ %98, %96 ]
  br i1 %9, label %16, label %15

15:
  tail call void %5(i64 noundef %14) nounwind
  br label %16

16:
  %17 = getelementptr inbounds nuw i8, ptr %13, i64 8
  %18 = load i64, ptr %17, align 8
  %19 = load i64, ptr %13, align 8
  %20 = icmp eq i64 %19, 0
  br i1 %20, label %45, label %21

21:
  %22 = icmp sgt i64 %18, 0
  br i1 %22, label %23, label %27

23:
  %24 = getelementptr inbounds nuw i8, ptr %13, i64 16
  br label %33

25:
  %26 = load i64, ptr %13, align 8
  br label %27

27:
  %28 = phi i64 [ %26, %25 ], [ %19, %21 ]
  %29 = inttoptr i64 %28 to ptr
  %30 = tail call i32 %29(ptr noundef %3, ptr noundef %4) nounwind
  %31 = getelementptr inbounds nuw i8, ptr %13, i64 16
  %32 = getelementptr inbounds %struct.place, ptr %31, i64 %18
  br label %96

33:
  %34 = phi i64 [ 0, %23 ], [ %43, %33 ]
  %35 = getelementptr inbounds nuw %struct.place, ptr %24, i64 %34
  %36 = load i64, ptr %35, align 8
  %37 = getelementptr inbounds nuw i8, ptr %35, i64 8
  %38 = load i64, ptr %37, align 8
  %39 = getelementptr inbounds i64, ptr %2, i64 %36
  %40 = load i64, ptr %39, align 8
  %41 = add nsw i64 %40, %38
  %42 = getelementptr inbounds nuw i64, ptr %3, i64 %34
  store i64 %41, ptr %42, align 8
  %43 = add nuw nsw i64 %34, 1
  %44 = icmp eq i64 %43, %18
  br i1 %44, label %25, label %33

45:
  %46 = getelementptr inbounds nuw i8, ptr %13, i64 32
  %47 = getelementptr inbounds %struct.varying, ptr %46, i64 %18
  store i64 0, ptr %3, align 8
  %48 = getelementptr inbounds nuw i8, ptr %13, i64 16
  %49 = load i64, ptr %48, align 8
  %50 = icmp sgt i64 %49, 0
  br i1 %50, label %51, label %62

51:
  %52 = icmp sgt i64 %18, 0
  %53 = getelementptr inbounds nuw i8, ptr %13, i64 24
  %54 = getelementptr inbounds i64, ptr %3, i64 %18
  %55 = getelementptr inbounds nuw i8, ptr %54, i64 8
  br label %56

56:
  %57 = phi i64 [ 0, %51 ], [ %69, %66 ]
  br i1 %52, label %58, label %66

58:
  %59 = icmp eq i64 %57, 0
  %60 = and i64 %57, 1
  %61 = icmp eq i64 %60, 0
  br label %72

62:
  %63 = getelementptr inbounds nuw i8, ptr %13, i64 24
  %64 = load i64, ptr %63, align 8
  %65 = getelementptr inbounds i64, ptr %47, i64 %64
  br label %96

66:
  %67 = load i64, ptr %53, align 8
  %68 = getelementptr inbounds i64, ptr %47, i64 %67
  tail call fastcc void @run(ptr noundef nonnull %47, ptr noundef nonnull %68, ptr noundef nonnull %3, ptr noundef nonnull %55, ptr noundef %4, ptr noundef null)
  %69 = add nuw nsw i64 %57, 1
  %70 = load i64, ptr %48, align 8
  %71 = icmp slt i64 %69, %70
  br i1 %71, label %56, label %62

72:
  %73 = phi i64 [ 0, %58 ], [ %93, %80 ]
  %74 = getelementptr inbounds nuw %struct.varying, ptr %46, i64 %73
  br i1 %59, label %80, label %75

75:
  br i1 %61, label %78, label %76

76:
  %77 = getelementptr inbounds nuw i8, ptr %74, i64 32
  br label %80

78:
  %79 = getelementptr inbounds nuw i8, ptr %74, i64 16
  br label %80

80:
  %81 = phi i64 [ 40, %76 ], [ 24, %78 ], [ 8, %72 ]
  %82 = phi ptr [ %77, %76 ], [ %79, %78 ], [ %74, %72 ]
  %83 = getelementptr inbounds nuw i8, ptr %74, i64 %81
  %84 = load i64, ptr %82, align 8
  %85 = load i64, ptr %83, align 8
  %86 = getelementptr inbounds i64, ptr %2, i64 %84
  %87 = load i64, ptr %86, align 8
  %88 = add nsw i64 %87, %85
  %89 = getelementptr inbounds nuw i8, ptr %74, i64 48
  %90 = load i64, ptr %89, align 8
  %91 = mul nsw i64 %90, %57
  %92 = add nsw i64 %88, %91
  %93 = add nuw nsw i64 %73, 1
  %94 = getelementptr inbounds nuw i64, ptr %3, i64 %93
  store i64 %92, ptr %94, align 8
  %95 = icmp eq i64 %93, %18
  br i1 %95, label %66, label %72

96:
  %97 = phi ptr [ %32, %27 ], [ %65, %62 ]
  %98 = add nuw nsw i64 %14, 1
  %99 = icmp ult ptr %97, %1
  br i1 %99, label %12, label %10

100:
  tail call void %5(i64 noundef -1) nounwind
  br label %101

101:
  ret void
}
