; Made of pool.c by python -m convc.backends.cpu.carried. One text for x86_64, aarch64.

%struct.timespec = type { i64, i64 }
%struct.opaque = type { [64 x i8] }
%struct.__sigset_t = type { [16 x i64] }
%struct.part = type { i64, i64, [112 x i8] }
%struct.job = type { i64, i64, ptr, i64, i64, [8 x i8], %struct.opaque, [16 x i8], [128 x %struct.part] }

define void @convc_pool_launch(ptr noundef readonly captures(address_is_null) %0, i64 noundef %1, ptr noundef %2, i64 noundef %3, i64 noundef %4) local_unnamed_addr nounwind {
  %6 = alloca %struct.timespec, align 8
  %7 = alloca %struct.opaque, align 16
  %8 = alloca %struct.__sigset_t, align 8
  %9 = alloca %struct.__sigset_t, align 8
  %10 = alloca i64, align 8
  %11 = tail call i64 @llvm.smin.i64(i64 %1, i64 %4)
  %12 = icmp ne ptr %0, null
  %13 = icmp sgt i64 %11, 1
  %14 = and i1 %12, %13
  %15 = icmp slt i64 %4, 2147483647
  %16 = and i1 %15, %14
  br i1 %16, label %17, label %43

17:
  %18 = getelementptr inbounds nuw i8, ptr %0, i64 16
  %19 = load i64, ptr %18, align 8
  %20 = icmp eq i64 %19, 0
  br i1 %20, label %25, label %21

21:
  %22 = tail call i32 @getpid() nounwind
  %23 = sext i32 %22 to i64
  %24 = icmp eq i64 %19, %23
  br i1 %24, label %25, label %43

25:
  %26 = load ptr, ptr %0, align 8
  %27 = getelementptr inbounds nuw i8, ptr %26, i64 384
  br label %28

28:
  %29 = phi ptr [ %39, %38 ], [ %26, %25 ]
  %30 = phi ptr [ %40, %38 ], [ %27, %25 ]
  %31 = getelementptr inbounds nuw i8, ptr %30, i64 8
  %32 = load atomic i64, ptr %31 monotonic, align 8
  %33 = icmp eq i64 %32, 0
  br i1 %33, label %34, label %38

34:
  %35 = atomicrmw xchg ptr %31, i64 1 acquire, align 8
  %36 = icmp eq i64 %35, 0
  %37 = load ptr, ptr %0, align 8
  br i1 %36, label %44, label %38

38:
  %39 = phi ptr [ %29, %28 ], [ %37, %34 ]
  %40 = getelementptr inbounds nuw i8, ptr %30, i64 16512
  %41 = getelementptr inbounds nuw i8, ptr %39, i64 264576
  %42 = icmp ult ptr %40, %41
  br i1 %42, label %28, label %43

43:
  tail call void %2(i64 noundef %3, i64 noundef 0, i64 noundef %4, i64 noundef 0) nounwind
  br label %226

44:
  %45 = getelementptr inbounds nuw i8, ptr %37, i64 16
  %46 = load atomic i64, ptr %45 monotonic, align 16
  %47 = add nsw i64 %1, -1
  %48 = icmp slt i64 %46, %47
  br i1 %48, label %49, label %87

49:
  %50 = getelementptr inbounds nuw i8, ptr %0, i64 8
  %51 = load ptr, ptr %50, align 8
  call void @llvm.lifetime.start.p0(ptr nonnull %7) nounwind
  call void @llvm.lifetime.start.p0(ptr nonnull %8) nounwind
  call void @llvm.lifetime.start.p0(ptr nonnull %9) nounwind
  call void @llvm.lifetime.start.p0(ptr nonnull %10) nounwind
  %52 = getelementptr inbounds nuw i8, ptr %37, i64 160
  %53 = tail call i32 @pthread_mutex_lock(ptr noundef nonnull %52) nounwind
  %54 = load i64, ptr %45, align 16
  %55 = icmp slt i64 %54, %47
  br i1 %55, label %56, label %81

56:
  %57 = call i32 @pthread_attr_init(ptr noundef nonnull %7) nounwind
  %58 = icmp eq i32 %57, 0
  br i1 %58, label %59, label %81

59:
  %60 = call i32 @pthread_attr_setdetachstate(ptr noundef nonnull %7, i32 noundef 1) nounwind
  %61 = call i32 @pthread_attr_setstacksize(ptr noundef nonnull %7, i64 noundef 1048576) nounwind
  %62 = call i32 @sigfillset(ptr noundef nonnull %8) nounwind
  %63 = call i32 @pthread_sigmask(i32 noundef 2, ptr noundef nonnull %8, ptr noundef nonnull %9) nounwind
  %64 = load i64, ptr %45, align 16
  %65 = icmp slt i64 %64, %47
  br i1 %65, label %66, label %78

66:
  %67 = getelementptr inbounds nuw i8, ptr %37, i64 128
  br label %71

68:
  %69 = add i64 %72, 1
  %70 = icmp eq i64 %69, %47
  br i1 %70, label %78, label %71

71:
  %72 = phi i64 [ %64, %66 ], [ %69, %68 ]
  %73 = atomicrmw add ptr %67, i64 1 seq_cst, align 128
  %74 = call i32 @pthread_create(ptr noundef nonnull %10, ptr noundef nonnull %7, ptr noundef %51, ptr noundef %37) nounwind
  %75 = icmp eq i32 %74, 0
  br i1 %75, label %68, label %76

76:
  %77 = atomicrmw add ptr %67, i64 -1 seq_cst, align 128
  br label %78

78:
  %79 = call i32 @pthread_sigmask(i32 noundef 2, ptr noundef nonnull %9, ptr noundef null) nounwind
  %80 = call i32 @pthread_attr_destroy(ptr noundef nonnull %7) nounwind
  br label %81

81:
  %82 = load i64, ptr %45, align 16
  %83 = icmp slt i64 %82, %47
  br i1 %83, label %84, label %85

84:
  store atomic i64 %47, ptr %45 monotonic, align 16
  br label %85

85:
  %86 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %52) nounwind
  call void @llvm.lifetime.end.p0(ptr nonnull %10) nounwind
  call void @llvm.lifetime.end.p0(ptr nonnull %9) nounwind
  call void @llvm.lifetime.end.p0(ptr nonnull %8) nounwind
  call void @llvm.lifetime.end.p0(ptr nonnull %7) nounwind
  br label %87

87:
  %88 = getelementptr inbounds nuw i8, ptr %30, i64 16
  store ptr %2, ptr %88, align 16
  %89 = getelementptr inbounds nuw i8, ptr %30, i64 24
  store i64 %3, ptr %89, align 8
  %90 = call i64 @llvm.smin.i64(i64 %11, i64 128)
  %91 = getelementptr inbounds nuw i8, ptr %30, i64 32
  store i64 %90, ptr %91, align 32
  %92 = getelementptr inbounds nuw i8, ptr %30, i64 128
  %93 = call i64 @llvm.smax.i64(i64 %90, i64 1)
  br label %101

94:
  %95 = shl nuw nsw i64 %90, 32
  %96 = add nsw i64 %95, -4294967296
  store atomic i64 %96, ptr %30 release, align 128
  %97 = atomicrmw add ptr %37, i64 1 seq_cst, align 128
  %98 = getelementptr inbounds nuw i8, ptr %37, i64 8
  %99 = load atomic i64, ptr %98 seq_cst, align 8
  %100 = icmp eq i64 %99, 0
  br i1 %100, label %139, label %112

101:
  %102 = phi i64 [ 0, %87 ], [ %104, %101 ]
  %103 = phi i64 [ 0, %87 ], [ %106, %101 ]
  %104 = add nuw nsw i64 %102, 1
  %105 = mul i64 %104, %4
  %106 = udiv i64 %105, %90
  %107 = getelementptr inbounds nuw %struct.part, ptr %92, i64 %102
  %108 = shl i64 %103, 32
  %109 = or i64 %106, %108
  store atomic i64 %109, ptr %107 monotonic, align 128
  %110 = getelementptr inbounds nuw i8, ptr %107, i64 8
  store atomic i64 0, ptr %110 monotonic, align 8
  %111 = icmp eq i64 %104, %93
  br i1 %111, label %94, label %101

112:
  %113 = getelementptr inbounds nuw i8, ptr %37, i64 160
  %114 = call i32 @pthread_mutex_lock(ptr noundef nonnull %113) nounwind
  %115 = getelementptr inbounds nuw i8, ptr %37, i64 128
  %116 = load atomic i64, ptr %115 seq_cst, align 128
  %117 = load atomic i64, ptr %30 seq_cst, align 128
  %118 = sdiv i64 %117, 4294967296
  %119 = sub nsw i64 %118, %116
  %120 = load atomic i64, ptr %98 seq_cst, align 8
  %121 = call i64 @llvm.smin.i64(i64 %119, i64 %120)
  %122 = icmp sgt i64 %121, 0
  br i1 %122, label %123, label %135

123:
  %124 = sub nsw i64 0, %121
  %125 = atomicrmw add ptr %98, i64 %124 seq_cst, align 8
  %126 = atomicrmw add ptr %115, i64 %121 seq_cst, align 128
  %127 = getelementptr inbounds nuw i8, ptr %37, i64 144
  %128 = load i64, ptr %127, align 16
  %129 = add nsw i64 %128, %121
  store i64 %129, ptr %127, align 16
  %130 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %113) nounwind
  %131 = icmp eq i64 %121, 1
  %132 = getelementptr inbounds nuw i8, ptr %37, i64 224
  br i1 %131, label %133, label %137

133:
  %134 = call i32 @pthread_cond_signal(ptr noundef nonnull %132) nounwind
  br label %139

135:
  %136 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %113) nounwind
  br label %139

137:
  %138 = call i32 @pthread_cond_broadcast(ptr noundef nonnull %132) nounwind
  br label %139

139:
  %140 = load i64, ptr %91, align 32
  %141 = icmp sgt i64 %140, 0
  br i1 %141, label %142, label %194

142:
  %143 = getelementptr inbounds nuw i8, ptr %30, i64 128
  br label %144

144:
  %145 = phi i64 [ %140, %142 ], [ %188, %187 ]
  %146 = phi i64 [ 0, %142 ], [ %189, %187 ]
  %147 = phi i64 [ 0, %142 ], [ %192, %187 ]
  %148 = getelementptr inbounds %struct.part, ptr %143, i64 %147
  %149 = load atomic i64, ptr %148 monotonic, align 8
  %150 = ashr i64 %149, 32
  %151 = and i64 %149, 2147483647
  %152 = sub nsw i64 %151, %150
  %153 = add nsw i64 %152, 6
  %154 = icmp ult i64 %153, 7
  br i1 %154, label %187, label %155

155:
  %156 = icmp eq i64 %147, 0
  br label %157

157:
  %158 = phi i64 [ %152, %155 ], [ %182, %178 ]
  %159 = phi i64 [ %151, %155 ], [ %181, %178 ]
  %160 = phi i64 [ %150, %155 ], [ %180, %178 ]
  %161 = phi i64 [ %149, %155 ], [ %179, %178 ]
  %162 = add nsw i64 %158, 3
  %163 = sdiv i64 %162, 4
  %164 = shl nsw i64 %163, 32
  %165 = sub nsw i64 0, %163
  %166 = select i1 %156, i64 %164, i64 %165
  %167 = add i64 %166, %161
  %168 = cmpxchg ptr %148, i64 %161, i64 %167 monotonic monotonic, align 8
  %169 = extractvalue { i64, i1 } %168, 1
  %170 = extractvalue { i64, i1 } %168, 0
  br i1 %169, label %171, label %178

171:
  %172 = sub nsw i64 %159, %163
  %173 = select i1 %156, i64 %160, i64 %172
  %174 = load ptr, ptr %88, align 16
  %175 = load i64, ptr %89, align 8
  %176 = add nsw i64 %173, %163
  call void %174(i64 noundef %175, i64 noundef %173, i64 noundef %176, i64 noundef 0) nounwind
  %177 = load atomic i64, ptr %148 monotonic, align 8
  br label %178

178:
  %179 = phi i64 [ %170, %157 ], [ %177, %171 ]
  %180 = ashr i64 %179, 32
  %181 = and i64 %179, 2147483647
  %182 = sub nsw i64 %181, %180
  %183 = add nsw i64 %182, 6
  %184 = icmp ult i64 %183, 7
  br i1 %184, label %185, label %157

185:
  %186 = load i64, ptr %91, align 32
  br label %187

187:
  %188 = phi i64 [ %186, %185 ], [ %145, %144 ]
  %189 = add nuw nsw i64 %146, 1
  %190 = add nsw i64 %147, 1
  %191 = icmp slt i64 %190, %188
  %192 = select i1 %191, i64 %190, i64 0
  %193 = icmp slt i64 %189, %188
  br i1 %193, label %144, label %194

194:
  %195 = atomicrmw and ptr %30, i64 4294967295 monotonic, align 128
  %196 = getelementptr inbounds nuw i8, ptr %6, i64 8
  br label %197

197:
  %198 = phi i64 [ 0, %194 ], [ %208, %201 ]
  %199 = load atomic i64, ptr %30 acquire, align 128
  %200 = icmp eq i64 %199, 0
  br i1 %200, label %225, label %201

201:
  call void @llvm.lifetime.start.p0(ptr nonnull %6) nounwind
  %202 = call i32 @clock_gettime(i32 noundef 1, ptr noundef nonnull %6) nounwind
  %203 = load i64, ptr %6, align 8
  %204 = mul nsw i64 %203, 1000000000
  %205 = load i64, ptr %196, align 8
  %206 = add nsw i64 %204, %205
  call void @llvm.lifetime.end.p0(ptr nonnull %6) nounwind
  %207 = icmp eq i64 %198, 0
  %208 = select i1 %207, i64 %206, i64 %198
  %209 = sub nsw i64 %206, %208
  %210 = icmp slt i64 %209, 30000
  br i1 %210, label %197, label %211

211:
  %212 = atomicrmw or ptr %30, i64 2147483648 monotonic, align 128
  %213 = getelementptr inbounds nuw i8, ptr %37, i64 160
  %214 = call i32 @pthread_mutex_lock(ptr noundef nonnull %213) nounwind
  %215 = load atomic i64, ptr %30 acquire, align 128
  %216 = icmp eq i64 %215, 2147483648
  br i1 %216, label %223, label %217

217:
  %218 = getelementptr inbounds nuw i8, ptr %30, i64 48
  br label %219

219:
  %220 = call i32 @pthread_cond_wait(ptr noundef nonnull %218, ptr noundef nonnull %213) nounwind
  %221 = load atomic i64, ptr %30 acquire, align 128
  %222 = icmp eq i64 %221, 2147483648
  br i1 %222, label %223, label %219

223:
  %224 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %213) nounwind
  br label %225

225:
  store atomic i64 0, ptr %31 release, align 8
  br label %226

226:
  ret void
}

declare void @llvm.lifetime.start.p0(ptr captures(none)) nounwind

declare void @llvm.lifetime.end.p0(ptr captures(none)) nounwind

declare i32 @pthread_cond_wait(ptr noundef, ptr noundef) local_unnamed_addr nounwind

define noalias noundef ptr @convc_pool_new() local_unnamed_addr nounwind {
  %1 = tail call noalias dereferenceable_or_null(24) ptr @malloc(i64 noundef 24) nounwind
  %2 = tail call ptr @mmap(ptr noundef null, i64 noundef 264576, i32 noundef 3, i32 noundef 34, i32 noundef -1, i64 noundef 0) nounwind
  %3 = icmp eq ptr %1, null
  %4 = icmp eq ptr %2, inttoptr (i64 -1 to ptr)
  %5 = select i1 %3, i1 true, i1 %4
  br i1 %5, label %6, label %7

6:
  tail call void @free(ptr noundef %1) nounwind
  br label %20

7:
  %8 = tail call i32 @madvise(ptr noundef %2, i64 noundef 264576, i32 noundef -1) nounwind
  %9 = icmp eq i32 %8, 0
  br i1 %9, label %13, label %10

10:
  %11 = tail call i32 @madvise(ptr noundef %2, i64 noundef 264576, i32 noundef 18) nounwind
  %12 = icmp eq i32 %11, 0
  br i1 %12, label %16, label %13

13:
  %14 = tail call i32 @getpid() nounwind
  %15 = sext i32 %14 to i64
  br label %16

16:
  %17 = phi i64 [ %15, %13 ], [ 0, %10 ]
  store ptr %2, ptr %1, align 8
  %18 = getelementptr inbounds nuw i8, ptr %1, i64 8
  store ptr @work, ptr %18, align 8
  %19 = getelementptr inbounds nuw i8, ptr %1, i64 16
  store i64 %17, ptr %19, align 8
  br label %20

20:
  %21 = phi ptr [ null, %6 ], [ %1, %16 ]
  ret ptr %21
}

declare noalias noundef ptr @malloc(i64 noundef) local_unnamed_addr nounwind

declare ptr @mmap(ptr noundef, i64 noundef, i32 noundef, i32 noundef, i32 noundef, i64 noundef) local_unnamed_addr nounwind

declare void @free(ptr allocptr noundef captures(none)) local_unnamed_addr nounwind

declare i32 @madvise(ptr noundef, i64 noundef, i32 noundef) local_unnamed_addr nounwind

define internal noalias noundef nonnull ptr @work(ptr noundef %0) nounwind {
  %2 = alloca %struct.timespec, align 8
  %3 = alloca %struct.timespec, align 8
  %4 = alloca %struct.timespec, align 8
  %5 = getelementptr inbounds nuw i8, ptr %0, i64 136
  %6 = atomicrmw add ptr %5, i64 1 monotonic, align 8
  %7 = getelementptr inbounds nuw i8, ptr %0, i64 384
  %8 = getelementptr inbounds nuw i8, ptr %0, i64 128
  %9 = getelementptr inbounds nuw i8, ptr %0, i64 160
  %10 = getelementptr inbounds nuw i8, ptr %4, i64 8
  %11 = getelementptr inbounds nuw i8, ptr %3, i64 8
  %12 = getelementptr inbounds nuw i8, ptr %0, i64 8
  %13 = getelementptr inbounds nuw i8, ptr %0, i64 144
  %14 = getelementptr inbounds nuw i8, ptr %0, i64 224
  %15 = getelementptr inbounds nuw i8, ptr %2, i64 8
  br label %16

16:
  %17 = phi i64 [ 30000, %1 ], [ %177, %172 ]
  %18 = load atomic i64, ptr %0 seq_cst, align 128
  br label %29

19:
  call void @llvm.lifetime.start.p0(ptr nonnull %4) nounwind
  %20 = call i32 @clock_gettime(i32 noundef 1, ptr noundef nonnull %4) nounwind
  %21 = load i64, ptr %4, align 8
  %22 = mul nsw i64 %21, 1000000000
  %23 = load i64, ptr %10, align 8
  %24 = add nsw i64 %22, %23
  call void @llvm.lifetime.end.p0(ptr nonnull %4) nounwind
  %25 = load atomic i64, ptr %0 seq_cst, align 128
  %26 = icmp eq i64 %25, %18
  %27 = icmp sgt i64 %17, 0
  %28 = select i1 %26, i1 %27, i1 false
  br i1 %28, label %130, label %142

29:
  %30 = phi i64 [ 0, %16 ], [ %128, %127 ]
  %31 = getelementptr inbounds nuw %struct.job, ptr %7, i64 %30
  %32 = load atomic i64, ptr %31 monotonic, align 128
  br label %33

33:
  %34 = phi i64 [ %32, %29 ], [ %40, %36 ]
  %35 = icmp slt i64 %34, 4294967296
  br i1 %35, label %127, label %36

36:
  %37 = add nsw i64 %34, -4294967295
  %38 = cmpxchg ptr %31, i64 %34, i64 %37 acquire monotonic, align 128
  %39 = extractvalue { i64, i1 } %38, 1
  %40 = extractvalue { i64, i1 } %38, 0
  br i1 %39, label %41, label %33

41:
  %42 = atomicrmw add ptr %8, i64 -1 seq_cst, align 128
  %43 = getelementptr inbounds nuw i8, ptr %31, i64 32
  %44 = load i64, ptr %43, align 32
  %45 = add nsw i64 %44, -1
  %46 = srem i64 %6, %45
  %47 = add nsw i64 %46, 1
  %48 = getelementptr %struct.part, ptr %31, i64 %47
  %49 = getelementptr i8, ptr %48, i64 136
  %50 = atomicrmw xchg ptr %49, i64 1 monotonic, align 8
  %51 = icmp eq i64 %50, 0
  br i1 %51, label %61, label %52

52:
  %53 = phi i64 [ %56, %52 ], [ %47, %41 ]
  %54 = add nsw i64 %53, 1
  %55 = icmp slt i64 %54, %44
  %56 = select i1 %55, i64 %54, i64 1
  %57 = getelementptr %struct.part, ptr %31, i64 %56
  %58 = getelementptr i8, ptr %57, i64 136
  %59 = atomicrmw xchg ptr %58, i64 1 monotonic, align 8
  %60 = icmp eq i64 %59, 0
  br i1 %60, label %61, label %52

61:
  %62 = phi i64 [ %47, %41 ], [ %56, %52 ]
  %63 = icmp sgt i64 %44, 0
  br i1 %63, label %64, label %118

64:
  %65 = getelementptr inbounds nuw i8, ptr %31, i64 128
  %66 = getelementptr inbounds nuw i8, ptr %31, i64 16
  %67 = getelementptr inbounds nuw i8, ptr %31, i64 24
  br label %68

68:
  %69 = phi i64 [ %44, %64 ], [ %112, %111 ]
  %70 = phi i64 [ 0, %64 ], [ %113, %111 ]
  %71 = phi i64 [ %62, %64 ], [ %116, %111 ]
  %72 = getelementptr inbounds %struct.part, ptr %65, i64 %71
  %73 = load atomic i64, ptr %72 monotonic, align 8
  %74 = ashr i64 %73, 32
  %75 = and i64 %73, 2147483647
  %76 = sub nsw i64 %75, %74
  %77 = add nsw i64 %76, 6
  %78 = icmp ult i64 %77, 7
  br i1 %78, label %111, label %79

79:
  %80 = icmp eq i64 %71, %62
  br label %81

81:
  %82 = phi i64 [ %76, %79 ], [ %106, %102 ]
  %83 = phi i64 [ %75, %79 ], [ %105, %102 ]
  %84 = phi i64 [ %74, %79 ], [ %104, %102 ]
  %85 = phi i64 [ %73, %79 ], [ %103, %102 ]
  %86 = add nsw i64 %82, 3
  %87 = sdiv i64 %86, 4
  %88 = shl nsw i64 %87, 32
  %89 = sub nsw i64 0, %87
  %90 = select i1 %80, i64 %88, i64 %89
  %91 = add i64 %90, %85
  %92 = cmpxchg ptr %72, i64 %85, i64 %91 monotonic monotonic, align 8
  %93 = extractvalue { i64, i1 } %92, 1
  %94 = extractvalue { i64, i1 } %92, 0
  br i1 %93, label %95, label %102

95:
  %96 = sub nsw i64 %83, %87
  %97 = select i1 %80, i64 %84, i64 %96
  %98 = load ptr, ptr %66, align 16
  %99 = load i64, ptr %67, align 8
  %100 = add nsw i64 %97, %87
  call void %98(i64 noundef %99, i64 noundef %97, i64 noundef %100, i64 noundef range(i64 -9223372036854775806, -9223372036854775808) %62) nounwind
  %101 = load atomic i64, ptr %72 monotonic, align 8
  br label %102

102:
  %103 = phi i64 [ %94, %81 ], [ %101, %95 ]
  %104 = ashr i64 %103, 32
  %105 = and i64 %103, 2147483647
  %106 = sub nsw i64 %105, %104
  %107 = add nsw i64 %106, 6
  %108 = icmp ult i64 %107, 7
  br i1 %108, label %109, label %81

109:
  %110 = load i64, ptr %43, align 32
  br label %111

111:
  %112 = phi i64 [ %110, %109 ], [ %69, %68 ]
  %113 = add nuw nsw i64 %70, 1
  %114 = add nsw i64 %71, 1
  %115 = icmp slt i64 %114, %112
  %116 = select i1 %115, i64 %114, i64 0
  %117 = icmp slt i64 %113, %112
  br i1 %117, label %68, label %118

118:
  %119 = atomicrmw add ptr %8, i64 1 seq_cst, align 128
  %120 = atomicrmw add ptr %31, i64 -1 release, align 128
  %121 = icmp eq i64 %120, 2147483649
  br i1 %121, label %122, label %127

122:
  %123 = call i32 @pthread_mutex_lock(ptr noundef nonnull %9) nounwind
  %124 = getelementptr inbounds nuw i8, ptr %31, i64 48
  %125 = call i32 @pthread_cond_broadcast(ptr noundef nonnull %124) nounwind
  %126 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %9) nounwind
  br label %127

127:
  %128 = add nuw nsw i64 %30, 1
  %129 = icmp eq i64 %128, 16
  br i1 %129, label %19, label %29

130:
  %131 = call i32 @sched_yield() nounwind
  call void @llvm.lifetime.start.p0(ptr nonnull %3) nounwind
  %132 = call i32 @clock_gettime(i32 noundef 1, ptr noundef nonnull %3) nounwind
  %133 = load i64, ptr %3, align 8
  %134 = mul nsw i64 %133, 1000000000
  %135 = load i64, ptr %11, align 8
  %136 = add nsw i64 %134, %135
  call void @llvm.lifetime.end.p0(ptr nonnull %3) nounwind
  %137 = load atomic i64, ptr %0 seq_cst, align 128
  %138 = icmp eq i64 %137, %18
  %139 = sub nsw i64 %136, %24
  %140 = icmp slt i64 %139, %17
  %141 = select i1 %138, i1 %140, i1 false
  br i1 %141, label %130, label %142

142:
  %143 = phi i64 [ %24, %19 ], [ %136, %130 ]
  %144 = load atomic i64, ptr %0 seq_cst, align 128
  %145 = icmp eq i64 %144, %18
  br i1 %145, label %146, label %172

146:
  %147 = call i32 @pthread_mutex_lock(ptr noundef nonnull %9) nounwind
  %148 = atomicrmw add ptr %12, i64 1 seq_cst, align 8
  %149 = atomicrmw add ptr %8, i64 -1 seq_cst, align 128
  %150 = load atomic i64, ptr %0 seq_cst, align 128
  %151 = icmp eq i64 %150, %18
  br i1 %151, label %152, label %162

152:
  %153 = load i64, ptr %13, align 16
  %154 = icmp eq i64 %153, 0
  br i1 %154, label %155, label %159

155:
  %156 = call i32 @pthread_cond_wait(ptr noundef nonnull %14, ptr noundef nonnull %9) nounwind
  %157 = load i64, ptr %13, align 16
  %158 = icmp eq i64 %157, 0
  br i1 %158, label %155, label %159

159:
  %160 = phi i64 [ %153, %152 ], [ %157, %155 ]
  %161 = add nsw i64 %160, -1
  store i64 %161, ptr %13, align 16
  br label %165

162:
  %163 = atomicrmw add ptr %12, i64 -1 seq_cst, align 8
  %164 = atomicrmw add ptr %8, i64 1 seq_cst, align 128
  br label %165

165:
  %166 = call i32 @pthread_mutex_unlock(ptr noundef nonnull %9) nounwind
  call void @llvm.lifetime.start.p0(ptr nonnull %2) nounwind
  %167 = call i32 @clock_gettime(i32 noundef 1, ptr noundef nonnull %2) nounwind
  %168 = load i64, ptr %2, align 8
  %169 = mul nsw i64 %168, 1000000000
  %170 = load i64, ptr %15, align 8
  %171 = add nsw i64 %169, %170
  call void @llvm.lifetime.end.p0(ptr nonnull %2) nounwind
  br label %172

172:
  %173 = phi i64 [ %171, %165 ], [ %143, %142 ]
  %174 = sub nsw i64 %173, %24
  %175 = icmp slt i64 %174, 30000
  %176 = sdiv i64 %17, 2
  %177 = select i1 %175, i64 30000, i64 %176
  br label %16
}

declare i32 @getpid() local_unnamed_addr nounwind

declare i32 @pthread_attr_init(ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_attr_setdetachstate(ptr noundef, i32 noundef) local_unnamed_addr nounwind

declare i32 @pthread_attr_setstacksize(ptr noundef, i64 noundef) local_unnamed_addr nounwind

declare i32 @sigfillset(ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_sigmask(i32 noundef, ptr noundef, ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_create(ptr noundef, ptr noundef, ptr noundef, ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_attr_destroy(ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_cond_signal(ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_cond_broadcast(ptr noundef) local_unnamed_addr nounwind

declare i32 @clock_gettime(i32 noundef, ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_mutex_lock(ptr noundef) local_unnamed_addr nounwind

declare i32 @pthread_mutex_unlock(ptr noundef) local_unnamed_addr nounwind

declare i32 @sched_yield() local_unnamed_addr nounwind

declare i64 @llvm.smin.i64(i64, i64) nounwind

declare i64 @llvm.smax.i64(i64, i64) nounwind
